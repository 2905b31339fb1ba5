"""Temperatures, throttling and load of the GPU from sysfs; the same on every Linux machine that has them."""

from pathlib import Path
from typing import Final

from agents.platform.reading import number_at, text

_ZONES_MAX: Final = 16
_OFF_MILLI_C: Final = -100_000
_ALERT: Final = "throttle-alert"
_GPU_LOADS: Final = (
    "sys/class/devfreq/17000000.gpu/device/load",
    "sys/class/devfreq/17000000.ga10b/device/load",
    "sys/class/devfreq/gpu-gpc-0/device/load",
    "sys/devices/platform/gpu.0/load",
)


def temperatures_c(root: Path) -> dict[str, float]:
    """Return degrees by zone. A zone that is powered down cannot be read, or answers far below any weather."""
    found: dict[str, float] = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*"))[:_ZONES_MAX]:
        name, value = text(zone / "type"), number_at(zone / "temp")
        if name and value is not None and value > _OFF_MILLI_C:
            found[name.removesuffix("-thermal").removesuffix("_thermal")] = value / 1000
    return found


def throttled(root: Path) -> bool | None:
    """Say whether the kernel slows the machine because of heat; None where it has no such alert."""
    states = [
        number_at(device / "cur_state")
        for device in sorted(root.glob("sys/class/thermal/cooling_device*"))[:64]
        if _ALERT in (text(device / "type") or "")
    ]
    known = [each for each in states if each is not None]
    return any(each > 0 for each in known) if known else None


def gpu_load_percent(root: Path) -> float | None:
    """Return the GPU's load; the kernel counts in tenths of a percent. None where it does not tell."""
    loads = (number_at(root / path) for path in _GPU_LOADS)
    return next((load / 10 for load in loads if load is not None), None)
