"""Watts by rail from the INA3221 and INA238 monitors, and what they add up to.

Which rails a board has differs by module, and so does what their sum means: a figure travels with its scope or not at
all. A rail that cannot be read makes the sum unknown, not smaller.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agents.platform.reading import number_at, text

BOARD_INPUT: Final = "board_input"
MODULE_INPUT: Final = "module_input"
MODULE_RAILS: Final = "module_rails"

_INPUTS: Final = (("VIN", BOARD_INPUT), ("VDD_IN", MODULE_INPUT), ("POM_5V_IN", MODULE_INPUT))
# Together these rails feed the module; the carrier board is not measured.
_SUMS: Final = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),  # Thor
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
# Channel 7 of an INA3221 is the sum of the others.
_SUM_CHANNEL: Final = "7"
_RAILS_MAX: Final = 24


@dataclass(frozen=True)
class DevicePower:
    watts: float
    scope: str


def device_power(rails_w: Mapping[str, float]) -> DevicePower | None:
    """Return what the device draws as far as these rails tell; None if they do not."""
    for name, scope in _INPUTS:
        if name in rails_w:
            return DevicePower(rails_w[name], scope)
    for names in _SUMS:
        if all(name in rails_w for name in names):
            # A GPU rail that idles reads slightly below zero.
            return DevicePower(sum(max(0.0, rails_w[name]) for name in names), MODULE_RAILS)
    return None


def read_rails_w(root: Path) -> dict[str, float]:
    return dict(each for each, _ in zip(_rails(root), range(_RAILS_MAX), strict=False))


def over_current(root: Path) -> dict[str, int]:
    """Return the over-current counters of the SoC and the alarms that stand now, by name; absent where none."""
    found: dict[str, int] = {}
    for path in sorted(root.glob("sys/class/hwmon/hwmon*/oc*_event_cnt"))[:16]:
        count = number_at(path)
        if count is not None:
            found[path.name.removesuffix("_event_cnt")] = int(count)
    alarms = [number_at(path) for path in sorted(_hwmons(root, "ina3221", "curr*_alarm"))[:32]]
    if any(each is not None for each in alarms):
        found["alarms"] = sum(1 for each in alarms if each)
    return found


def _rails(root: Path) -> Iterator[tuple[str, float]]:
    for label in sorted(_hwmons(root, "ina3221", "in*_label")):
        name, channel = text(label), label.name.removeprefix("in").removesuffix("_label")
        if not name or name == "NC" or channel == _SUM_CHANNEL:
            continue
        volts = number_at(label.with_name(f"in{channel}_input"))
        amperes = number_at(label.with_name(f"curr{channel}_input"))
        if volts is not None and amperes is not None:
            yield name, volts * amperes / 1e6
    for power in sorted(_hwmons(root, "ina238", "power1_input")):
        watts = number_at(power)
        name = text(power.with_name("power1_label")) or text(power.with_name("in1_label"))
        if watts is not None:
            # Without a label it is kept under its bus address, where nothing adds it up by mistake.
            yield name or f"ina238_{power.parent.parent.parent.name}", watts / 1e6


def _hwmons(root: Path, driver: str, pattern: str) -> Iterator[Path]:
    return root.glob(f"sys/bus/i2c/drivers/{driver}/*/hwmon/hwmon*/{pattern}")
