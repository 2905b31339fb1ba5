"""Any Linux machine: /proc, sysfs and the file system. It starts no process."""

import os
import platform
import shutil
from pathlib import Path
from typing import Final

from agents.platform import thermal
from agents.platform.conditions import Conditions
from agents.platform.energy import EnergyMeter, PackageMeter
from agents.platform.reading import Facts, number, number_at, text

# Interfaces by the kernel's naming; Wi-Fi may be a telephone's, so it says nothing.
_METERED: Final = ("wwan", "wwp", "ppp", "rmnet")
_UNMETERED: Final = ("eth", "en")


class GenericLinux:
    name = "linux"

    def __init__(self, state_dir: Path, root: Path = Path("/")) -> None:
        self._state_dir, self._root = state_dir, root

    def facts(self) -> Facts:
        found = read(self._state_dir, self._root / "proc")
        found.update({f"temp_{name}_c": value for name, value in thermal.temperatures_c(self._root).items()})
        return found

    def conditions(self) -> Conditions:
        root, facts = self._root, read(self._state_dir, self._root / "proc")
        load, cores = _float(facts.get("load_1m")), os.cpu_count() or 1
        return Conditions(
            temperature_c=max(thermal.temperatures_c(root).values(), default=None),
            battery_percent=battery_percent(root),
            on_external_power=on_external_power(root),
            load_1m=load,
            load_per_core=None if load is None else load / cores,
            memory_available_mb=_float(facts.get("memory_available_mb")),
            disk_free_mb=_float(facts.get("disk_free_mb")),
            gpu_load_percent=thermal.gpu_load_percent(root),
            network_metered=network_metered(root),
            throttled=thermal.throttled(root),
        )

    def meter(self) -> EnergyMeter | None:
        meter = PackageMeter(self._root)
        return meter if meter.read() is not None else None


def read(state_dir: Path, proc: Path = Path("/proc")) -> Facts:
    facts: Facts = {
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpu_count": os.cpu_count() or 0,
        "disk_free_mb": shutil.disk_usage(state_dir).free >> 20,
    }
    load = text(proc / "loadavg")
    if load:
        facts["load_1m"] = number(load.split()[0])
    uptime = text(proc / "uptime")
    if uptime:
        facts["uptime_s"] = number(uptime.split()[0])
    facts.update(_memory(text(proc / "meminfo") or ""))
    return {name: value for name, value in facts.items() if value is not None}


def battery_percent(root: Path) -> float | None:
    """Return the charge of the emptiest battery of the machine itself."""
    supplies = [each for each in _supplies(root) if text(each / "type") == "Battery"]
    charges = [number_at(each / "capacity") for each in supplies if text(each / "scope") != "Device"]
    return min((each for each in charges if each is not None), default=None)


def on_external_power(root: Path) -> bool | None:
    online = [number_at(each / "online") for each in _supplies(root) if text(each / "type") in {"Mains", "USB"}]
    known = [bool(each) for each in online if each is not None]
    if known:
        return any(known)
    charging = {text(each / "status") for each in _supplies(root)} & {"Charging", "Discharging", "Full"}
    return "Discharging" not in charging if charging else None


def network_metered(root: Path) -> bool | None:
    """Say whether the default route goes over a mobile network; None without a route or over Wi-Fi."""
    rows = (line.split() for line in (text(root / "proc/net/route") or "").splitlines()[1:200])
    routes = [(number(row[6]) or 0.0, row[0]) for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"]
    name = min(routes)[1] if routes else ""
    if name.startswith(_METERED):
        return True
    return False if name.startswith(_UNMETERED) else None


def _supplies(root: Path) -> list[Path]:
    return sorted(root.glob("sys/class/power_supply/*"))[:16]


def _memory(table: str) -> Facts:
    wanted = {"MemTotal:": "memory_mb", "MemAvailable:": "memory_available_mb"}
    rows = (line.split() for line in table.splitlines())
    return {wanted[row[0]]: int(row[1]) >> 10 for row in rows if len(row) > 1 and row[0] in wanted}


def _float(value: str | float | None) -> float | None:
    return float(value) if isinstance(value, int | float) else None
