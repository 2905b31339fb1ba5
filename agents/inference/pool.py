"""Qualification in a process of its own, shared by every agent of this one and ended when idle.

The child measures; the parent reads the meter meanwhile and judges, so one place says what a budget means.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agents.inference.demands import Demands
from agents.inference.energy import EnergyWatch, Meter
from agents.link.child import Child, Stage
from agents.protocol.v1.contract import Budget

# What the child gets beyond its own limit before it is taken for lost: start, imports, a last line.
_GRACE_S: Final = 20.0
_OUT_OF_TIME: Final = {"SIGXCPU": "CPU time", "SIGALRM": "time"}


@dataclass(frozen=True)
class Verdict:
    ok: bool
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Surroundings:
    """What one device adds: its demands, its meter if it has one, what it is made of, where its engines are kept."""

    demands: Demands = field(default_factory=Demands)
    meter: Callable[[], Meter | None] = lambda: None
    machine: Callable[[], Mapping[str, object]] = dict
    engines: Path | None = None


def open_worker() -> Child:
    """One thread whatever library looks: the robot's other work owns the other cores."""
    return Child("agents.inference.worker", {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})


class QualifierPool:
    """One bundle at a time; the others wait their turn. `close` when done."""

    def __init__(self, idle_s: float = 20.0) -> None:
        self._idle_s = idle_s
        self._turn = asyncio.Lock()
        self._worker = open_worker()
        self._idle: asyncio.TimerHandle | None = None

    async def qualify(self, bundle: Path, around: Surroundings | None = None, stage: Stage | None = None) -> Verdict:
        """Return the verdict on a bundle; one that crashes or blocks the worker twice does not qualify.

        Raises:
            OSError: the worker could not be started or could not read the bundle now.
        """
        device, tell = around or Surroundings(), stage or _unheard
        async with self._turn:
            # Twice: once may be the machine's fault, for one that is short of memory kills somebody.
            first = await self._attempt(bundle, device, tell)
            second = first if isinstance(first, Verdict) else await self._attempt(bundle, device, tell)
            return second if isinstance(second, Verdict) else Verdict(ok=False, reason=second)

    async def close(self) -> None:
        async with self._turn:
            self._keep()
            await self._worker.stop()

    async def _attempt(self, bundle: Path, device: Surroundings, stage: Stage) -> Verdict | str:
        """Return the verdict, or how the worker ended instead."""
        self._keep()
        meter = device.meter()
        watch = EnergyWatch(meter) if meter is not None else None
        try:
            answer, marks = await self._asked(bundle, device, watch, stage)
        except EOFError:
            await self._worker.stop()
            return "the model crashed its worker"
        except asyncio.TimeoutError:
            await self._worker.stop()
            return f"the model gave no result in {device.demands.wall_s:.0f} s"
        except BaseException:
            # Its late answer would be taken for the answer to the next question.
            await self._worker.stop()
            raise
        self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._let_go)
        return _verdict(answer, device.demands, marks)

    async def _asked(
        self, bundle: Path, device: Surroundings, watch: EnergyWatch | None, tell: Stage
    ) -> tuple[dict[str, Any], dict[str, float]]:
        decisions = [0.0]

        def stage(name: str, value: float) -> None:
            tell(name, value)
            if name == "soaked":
                decisions[0] = value
            if watch is not None:
                watch.mark(name, int(decisions[0]))

        question = {
            "work": "qualify",
            "bundle": str(bundle),
            "demands": device.demands.model_dump(),
            "machine": {name: str(value) for name, value in device.machine().items()},
            "engines": str(device.engines) if device.engines else None,
            "rest": watch is not None,
        }
        if watch is None:
            return await self._worker.ask(question, device.demands.wall_s + _GRACE_S, stage), {}
        watch.start()
        try:
            answer = await self._worker.ask(question, device.demands.wall_s + _GRACE_S, stage)
        finally:
            await watch.stop()
        return answer, watch.numbers("rest", "soak", "soaked", decisions[0])

    def _keep(self) -> None:
        if self._idle is not None:
            self._idle.cancel()

    def _let_go(self) -> None:
        if not self._turn.locked():
            self._worker.let_go()


class DeviceQualifier:
    """The pool as one device uses it; `stage` says what is being done, None when nothing is."""

    def __init__(self, pool: QualifierPool, around: Surroundings) -> None:
        self._pool, self._around = pool, around
        self.stage: str | None = None
        self._share = 0.0

    async def qualify(self, bundle: Path) -> Verdict:
        try:
            return await self._pool.qualify(bundle, self._around, self._at)
        finally:
            self.stage = None

    def doing(self) -> tuple[str, str] | None:
        """Return what is being done now and how far it is."""
        if self.stage is None:
            return None
        building = self.stage == "building_engine"
        return self.stage, f"{self._share:.0%} of the time allowed" if building else ""

    def _at(self, stage: str, value: float) -> None:
        self.stage, self._share = stage, value


def _unheard(_stage: str, _value: float) -> None:
    """Tell nobody."""


def _verdict(answer: Mapping[str, Any], demands: Demands, energy: Mapping[str, float]) -> Verdict | str:
    if "trouble" in answer:
        raise OSError(answer["trouble"])
    if "refused" in answer:
        return Verdict(ok=False, reason=answer["refused"])
    if "died" in answer:
        spent = _OUT_OF_TIME.get(answer["died"])
        limit_s = demands.cpu_s if answer["died"] == "SIGXCPU" else demands.wall_s
        if spent:
            return Verdict(ok=False, reason=f"the model gave no result in {limit_s:.0f} s of {spent}")
        return f"the model crashed its worker ({answer['died']})"
    numbers = {**answer["done"]["numbers"], **energy}
    budget = Budget.model_validate(answer["done"]["budget"]).stricter(demands.budget)
    exceeded = budget.exceeded(numbers)
    return Verdict(exceeded is None, exceeded or "", numbers)
