"""A simulated robot: it has no watts, so it declares a power model, and everything it says is marked as simulated.

`simulated.json` in the state directory is written by whoever runs the simulation. A machine that is a Jetson does not
look for it: there the sensors speak.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.platform.conditions import Conditions
from agents.platform.energy import SIMULATED, EnergyMeter, SimulatedMeter
from agents.platform.generic import GenericLinux
from agents.platform.reading import Facts
from agents.protocol.v1 import strict_json
from agents.sdk.files import read_bounded

_FILE: Final = "simulated.json"
_MAX_BYTES: Final = 4096


class Declaration(BaseModel):
    """What the robot would draw and be like; what is absent is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(max_length=60, pattern=r"^[\w. -]+$")
    watts: float = Field(ge=0, le=1e5, allow_inf_nan=False)
    joules_per_decision: float = Field(ge=0, le=1e5, allow_inf_nan=False)
    temperature_c: float | None = Field(default=None, ge=-100, le=200)
    battery_percent: float | None = Field(default=None, ge=0, le=100)
    on_external_power: bool | None = None
    network_metered: bool | None = None


class SimulatedRobot:
    name = "simulated"

    def __init__(self, declared: Declaration, state_dir: Path, root: Path = Path("/")) -> None:
        self._declared, self._machine = declared, GenericLinux(state_dir, root)

    def facts(self) -> Facts:
        said = self._declared
        return {
            **self._machine.facts(),
            "simulated_robot": said.name,
            "power_w": said.watts,
            "power_scope": SIMULATED,
            "joules_per_decision": said.joules_per_decision,
        }

    def conditions(self) -> Conditions:
        """Heat, battery and network are the robot's; load, memory and disk are those of the machine it runs on."""
        said = self._declared
        return replace(
            self._machine.conditions(),
            temperature_c=said.temperature_c,
            battery_percent=said.battery_percent,
            on_external_power=said.on_external_power,
            network_metered=said.network_metered,
            power_w=said.watts,
            power_scope=SIMULATED,
        )

    def meter(self) -> EnergyMeter | None:
        return SimulatedMeter(self._declared.watts, self._declared.joules_per_decision)


def declaration(state_dir: Path) -> Declaration | None:
    """Return what the state directory declares; a file that says something else than it may says nothing."""
    data = read_bounded(state_dir / _FILE, _MAX_BYTES)
    try:
        return None if data is None else Declaration.model_validate(strict_json(data, _MAX_BYTES))
    except (ValueError, ValidationError):
        return None
