"""The port to the machine and its three adapters: whoever asks does not know which one answers.

`now` is for check-ins and is read at most twice a minute; `conditions` is for decisions and is at most two seconds old.
"""

import time
from pathlib import Path
from typing import Final, Protocol

from agents.platform.conditions import Conditions
from agents.platform.energy import EnergyMeter
from agents.platform.generic import GenericLinux
from agents.platform.inventory import is_jetson
from agents.platform.jetson import Jetson
from agents.platform.reading import Facts
from agents.platform.simulated import SimulatedRobot, declaration

_PERIOD_S: Final = 30.0
_CONDITIONS_S: Final = 2.0
_FACTS_MAX: Final = 60


class Platform(Protocol):
    """A machine: what it is, how it is, and what it draws if it can tell."""

    @property
    def name(self) -> str: ...

    def facts(self) -> Facts: ...
    def conditions(self) -> Conditions: ...
    def meter(self) -> EnergyMeter | None: ...


def platform_of(state_dir: Path, root: Path = Path("/")) -> Platform:
    if is_jetson(root):
        return Jetson(state_dir, root)
    declared = declaration(state_dir)
    return SimulatedRobot(declared, state_dir, root) if declared else GenericLinux(state_dir, root)


class PlatformFacts:
    """What an agent knows of its machine. A declaration that appears later is seen with the next reading."""

    def __init__(self, state_dir: Path, root: Path = Path("/")) -> None:
        self._state_dir, self._root = state_dir, root
        self._read_at_s = self._seen_at_s = float("-inf")
        self._facts: Facts = {}
        self._conditions = Conditions()
        self._jetson = Jetson(state_dir, root) if is_jetson(root) else None

    def now(self) -> Facts:
        if time.monotonic() - self._read_at_s > _PERIOD_S:
            platform = self._platform()
            facts = {"platform": platform.name, **platform.facts()}
            self._facts = dict(list(facts.items())[:_FACTS_MAX])
            self._read_at_s = time.monotonic()
        return self._facts

    def conditions(self) -> Conditions:
        if time.monotonic() - self._seen_at_s > _CONDITIONS_S:
            self._conditions, self._seen_at_s = self._platform().conditions(), time.monotonic()
        return self._conditions

    def meter(self) -> EnergyMeter | None:
        """Return a meter of its own for one measurement; None where nothing measures."""
        return self._platform().meter()

    def _platform(self) -> Platform:
        # Kept: what a Jetson is made of is read once.
        return self._jetson or platform_of(self._state_dir, self._root)
