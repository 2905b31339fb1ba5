"""A Jetson: what it is made of, what it draws, how hot it is. From sysfs; from a tegrastats log where sysfs is silent.

An operator who runs `tegrastats --logfile /run/fleetloop/tegrastats.log` gives the agent rails that only root may read.
The agent starts no tegrastats itself.
"""

import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

from agents.platform import generic, rails, thermal
from agents.platform.conditions import Conditions
from agents.platform.energy import EnergyMeter, PowerMeter
from agents.platform.inventory import inventory, is_jetson, power_mode
from agents.platform.rails import DevicePower
from agents.platform.reading import Facts
from agents.platform.tegrastats import Tegrastats, parse

_LOG: Final = "run/fleetloop/tegrastats.log"
_LOG_AGE_S: Final = 15.0
_TAIL_BYTES: Final = 8192
_ZONES_MAX: Final = 12


class Jetson:
    name = "jetson"

    def __init__(self, state_dir: Path, root: Path = Path("/")) -> None:
        self._root, self._generic = root, generic.GenericLinux(state_dir, root)

    def facts(self) -> Facts:
        return {**self._generic.facts(), **self._inventory, **_measured(self._root)}

    def conditions(self) -> Conditions:
        root, log = self._root, tegrastats(self._root)
        seen, power = self._generic.conditions(), device_power(root)
        hottest = max([*_temperatures(root, log).values()], default=None)
        load = seen.gpu_load_percent
        if load is None and log is not None:
            load = log.engine_percent.get("GR3D")
        return replace(
            seen,
            temperature_c=hottest,
            gpu_load_percent=load,
            power_w=power.watts if power else None,
            power_scope=power.scope if power else None,
        )

    def meter(self) -> EnergyMeter | None:
        # A log is written once a second and late: too coarse to add up decisions with.
        return PowerMeter(lambda: sysfs_power(self._root)) if sysfs_power(self._root) else None

    @cached_property
    def _inventory(self) -> Facts:
        return inventory(self._root)


def read(root: Path = Path("/")) -> Facts:
    """Return what is there; an empty dict on anything that is no Jetson."""
    return {**inventory(root), **_measured(root)} if is_jetson(root) else {}


def sysfs_power(root: Path) -> DevicePower | None:
    return rails.device_power(rails.read_rails_w(root))


def device_power(root: Path) -> DevicePower | None:
    log = tegrastats(root)
    return sysfs_power(root) or (rails.device_power(log.rails_w) if log else None)


def tegrastats(root: Path) -> Tegrastats | None:
    """Return the last whole line of the log; None if it is old or absent."""
    path = root / _LOG
    try:
        if time.time() - path.stat().st_mtime > _LOG_AGE_S:
            return None
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).decode("utf-8", "replace").split("\n")[:-1]
    except OSError:
        return None
    return parse(lines[-1]) if lines else None


def _temperatures(root: Path, log: Tegrastats | None) -> dict[str, float]:
    return thermal.temperatures_c(root) or (dict(log.temperature_c) if log else {})


def _measured(root: Path) -> Facts:
    log = tegrastats(root)
    power, measured = device_power(root), rails.read_rails_w(root) or (log.rails_w if log else {})
    facts: Facts = {
        "power_mode": power_mode(root),
        "power_w": power.watts if power else None,
        "power_scope": power.scope if power else None,
        "gpu_load_percent": thermal.gpu_load_percent(root),
        "throttled": _word(thermal.throttled(root)),
    }
    facts.update({f"rail_{name.lower()}_w": watts for name, watts in list(measured.items())[:8]})
    zones = list(_temperatures(root, log).items())[:_ZONES_MAX]
    facts.update({f"temp_{name}_c": value for name, value in zones})
    facts.update({f"over_current_{name}": count for name, count in list(rails.over_current(root).items())[:6]})
    return {name: value for name, value in facts.items() if value is not None}


def _word(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"
