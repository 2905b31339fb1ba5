"""Joules of decisions: what a meter says while they are made, less what the machine draws without them."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Protocol


class Reading(Protocol):
    """`joules` of one `run` of a meter; `scope` says what it covers."""

    @property
    def joules(self) -> float: ...
    @property
    def at_s(self) -> float: ...
    @property
    def scope(self) -> str: ...
    @property
    def run(self) -> int: ...


class Meter(Protocol):
    def read(self, decisions: int = 0) -> Reading | None: ...


@dataclass
class EnergyWatch:
    """Reads a meter often enough while a child measures, and at the moments that the child tells of."""

    meter: Meter
    poll_s: float = 0.1
    _marks: dict[str, Reading | None] = field(default_factory=dict)
    _task: "asyncio.Task[None] | None" = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._poll())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def mark(self, moment: str, decisions: int = 0) -> None:
        self._marks[moment] = self.meter.read(decisions)

    def numbers(self, idle: str, begin: str, end: str, decisions: float) -> dict[str, float]:
        """Return watts and joules per decision between three moments; nothing if the meter was interrupted."""
        resting = _watts(self._marks.get(idle), self._marks.get(begin))
        first, last = self._marks.get(begin), self._marks.get(end)
        working = _watts(first, last)
        if resting is None or working is None or first is None or last is None or decisions <= 0:
            return {}
        net_j = max(0.0, (working - resting) * (last.at_s - first.at_s))
        return {
            "idle_w": resting,
            "soak_w": working,
            "joules_per_decision": net_j / decisions,
            # Numbers travel without words, so the scope is a name.
            f"energy_scope_{last.scope}": 1.0,
        }

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self.poll_s)
            self.meter.read()


def _watts(first: Reading | None, last: Reading | None) -> float | None:
    if first is None or last is None or (first.scope, first.run) != (last.scope, last.run):
        return None
    duration_s, joules = last.at_s - first.at_s, last.joules - first.joules
    return joules / duration_s if duration_s > 0 and joules >= 0 else None
