"""Energy between two readings, with what it covers.

| scope | what was counted |
|---|---|
| board_input | what goes into the board (Thor: VIN) |
| module_input | what goes into the module, without its carrier board |
| module_rails | the sum of the module's rails |
| cpu_package | the processor's own counter (RAPL), without memory, disk and board |
| simulated | the power model a simulated robot declares of itself |
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from agents.platform.rails import DevicePower
from agents.platform.reading import number_at

CPU_PACKAGE: Final = "cpu_package"
SIMULATED: Final = "simulated"
# Watts read at two moments say little about what was drawn in between if the moments lie far apart.
GAP_MAX_S: Final = 2.0


@dataclass(frozen=True)
class EnergyReading:
    """`joules` since the meter began; only differences mean anything, and only within one `run`."""

    joules: float
    at_s: float
    scope: str
    run: int = 0


@dataclass(frozen=True)
class Energy:
    joules: float
    duration_s: float
    scope: str


class EnergyMeter(Protocol):
    """To be read at least once a second while something is measured."""

    def read(self, decisions: int = 0) -> EnergyReading | None:
        """Return the reading after `decisions` since the meter began; None if it cannot be read now."""


def between(first: EnergyReading | None, last: EnergyReading | None) -> Energy | None:
    """Return the energy between two readings of one meter; None if anything interrupted it."""
    if first is None or last is None or (first.scope, first.run) != (last.scope, last.run):
        return None
    duration_s, joules = last.at_s - first.at_s, last.joules - first.joules
    return Energy(joules, duration_s, first.scope) if duration_s > 0 and joules >= 0 else None


class PowerMeter:
    """Adds up watts that are read now and then (trapezoids); a gap or another scope begins a new `run`."""

    def __init__(self, power: Callable[[], DevicePower | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._power, self._clock = power, clock
        self._last: tuple[float, DevicePower] | None = None
        self._joules, self._run = 0.0, 0

    def read(self, decisions: int = 0) -> EnergyReading | None:
        del decisions  # what was measured holds them already
        power, at_s = self._power(), self._clock()
        if power is None:
            self._last = None
            return None
        if self._last is None or self._last[1].scope != power.scope or at_s - self._last[0] > GAP_MAX_S:
            self._run += 1
        else:
            self._joules += (at_s - self._last[0]) * (power.watts + self._last[1].watts) / 2
        self._last = (at_s, power)
        return EnergyReading(self._joules, at_s, power.scope, self._run)


class PackageMeter:
    """RAPL: a counter of microjoules per processor package that starts again at its range."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._zones = sorted(root.glob("sys/class/powercap/intel-rapl:[0-9]"))[:8]
        self._last_uj: dict[Path, float] = {}
        self._joules, self._run = 0.0, 0

    def read(self, decisions: int = 0) -> EnergyReading | None:
        del decisions  # what was measured holds them already
        now = {zone: number_at(zone / "energy_uj") for zone in self._zones}
        read_uj = {zone: value for zone, value in now.items() if value is not None}
        if not read_uj or len(read_uj) < len(now):
            self._last_uj = {}  # the kernel shows it to root only, or took it away
            return None
        if not self._last_uj:
            self._run += 1
        self._joules += sum(self._added_uj(zone, value) for zone, value in read_uj.items()) / 1e6
        self._last_uj = read_uj
        return EnergyReading(self._joules, self._clock(), CPU_PACKAGE, self._run)

    def _added_uj(self, zone: Path, value: float) -> float:
        before = self._last_uj.get(zone, value)
        return value - before if value >= before else value + (number_at(zone / "max_energy_range_uj") or 0) - before


@dataclass(frozen=True)
class SimulatedMeter:
    """What a simulated robot would draw by its own declaration."""

    watts: float
    joules_per_decision: float
    clock: Callable[[], float] = time.monotonic

    def read(self, decisions: int = 0) -> EnergyReading | None:
        now_s = self.clock()
        return EnergyReading(self.watts * now_s + self.joules_per_decision * decisions, now_s, SIMULATED)
