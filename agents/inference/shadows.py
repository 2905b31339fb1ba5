"""The shadow seen from the agent: it asks the application for samples, runs the child, and judges what came of it.

A shadow can block. What it cannot find out (no samples, too few, the active model would suffer) holds the update: no
evidence is no pass. It carries neither numpy nor onnxruntime.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from agents.inference.contract import NotQualifiedError, read_contract
from agents.inference.energy import EnergyWatch
from agents.inference.pool import Surroundings, open_worker
from agents.link.child import Child
from agents.sdk.shadow import ShadowFiles

_GRACE_S: Final = 60.0
_RENEW_S: Final = 5.0
_METER_S: Final = 0.5


@dataclass(frozen=True)
class ShadowVerdict:
    """`passed` only lets the update go on; `blocked` is the candidate's fault; `held` is nobody's."""

    outcome: Literal["passed", "blocked", "held"]
    reason: str = ""
    detail: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


class DeviceShadow:
    """One device's shadows; an application that says nothing for `first_word_s` gives no evidence.

    `stage` says what is being done, None when nothing is.
    """

    def __init__(self, signals: Path, around: Surroundings, first_word_s: float = 30.0) -> None:
        self._files, self._around, self._first_word_s = ShadowFiles(signals), around, first_word_s
        self.stage: str | None = None

    async def shadow(self, candidate: Path, active_digest: str, duration_s: float) -> ShadowVerdict:
        """Run a candidate beside the active model for a while.

        Raises:
            OSError: it cannot be run now.
        """
        worker, renewing = open_worker(), asyncio.get_running_loop().create_task(self._renew())
        session = await asyncio.to_thread(self._files.ask)
        try:
            answer, energy = await self._asked(worker, candidate, active_digest, duration_s, session)
        except (EOFError, asyncio.TimeoutError) as error:
            return ShadowVerdict("held", "shadow_interrupted", str(error))
        finally:
            self.stage = None
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing
            await worker.stop()
            self._files.end()
        return _verdict(answer, energy, candidate)

    async def _asked(
        self, worker: Child, candidate: Path, active_digest: str, duration_s: float, session: str
    ) -> tuple[dict[str, Any], dict[str, float]]:
        meter = self._around.meter()
        watch = EnergyWatch(meter, _METER_S) if meter is not None else None
        decisions = [0.0]

        def stage(name: str, value: float) -> None:
            self.stage, decisions[0] = name, value
            if watch is not None:
                watch.mark(name, int(value))

        limit_s = duration_s + self._first_word_s + self._around.demands.build_s + _GRACE_S
        question = self._question(candidate, active_digest, duration_s, session, limit_s)
        if watch is None:
            return await worker.ask(question, limit_s, stage), {}
        watch.start()
        try:
            answer = await worker.ask(question, limit_s, stage)
        finally:
            await watch.stop()
        return answer, watch.numbers("baseline", "comparing", "compared", decisions[0])

    def _question(
        self, candidate: Path, active_digest: str, duration_s: float, session: str, limit_s: float
    ) -> dict[str, Any]:
        demands = self._around.demands.model_copy(update={"wall_s": limit_s, "cpu_s": limit_s})
        return {
            "work": "shadow",
            "bundle": str(candidate),
            "ring": str(self._files.ring),
            "session": session,
            "content_digest": active_digest,
            "duration_s": duration_s,
            "first_word_s": self._first_word_s,
            "demands": demands.model_dump(),
            "machine": {name: str(value) for name, value in self._around.machine().items()},
            "engines": str(self._around.engines) if self._around.engines else None,
        }

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            self._files.renew()


def _verdict(answer: Mapping[str, Any], energy: Mapping[str, float], candidate: Path) -> ShadowVerdict:
    if "trouble" in answer:
        raise OSError(answer["trouble"])
    if "refused" in answer:
        return ShadowVerdict("blocked", "shadow_failed", answer["refused"])
    if "died" in answer:
        return _died(answer["died"])
    seen = answer["done"]
    numbers = dict(seen["numbers"]) | {f"shadow_{name}": value for name, value in energy.items() if "_per_" in name}
    different = _difference(candidate, numbers)
    if different is not None:
        return ShadowVerdict("blocked", *different, numbers)
    held = seen["held"]
    return ShadowVerdict("held", held, "", numbers) if held else ShadowVerdict("passed", numbers=numbers)


def _died(how: str) -> ShadowVerdict:
    # Killed from outside is the machine's shortage; any other end is the candidate's own.
    if how in {"SIGKILL", "SIGTERM", "SIGALRM"}:
        return ShadowVerdict("held", "shadow_interrupted", how)
    return ShadowVerdict("blocked", "shadow_crashed", how)


def _difference(candidate: Path, numbers: Mapping[str, float]) -> tuple[str, str] | None:
    """Return why the candidate is too different; too few decisions say nothing."""
    try:
        rules = read_contract(candidate).shadow
    except NotQualifiedError as error:
        return "shadow_failed", str(error)
    enough = numbers.get("shadow_decisions", 0.0) >= rules.min_decisions
    return rules.too_different(numbers) if enough else None
