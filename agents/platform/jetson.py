"""Facts a Jetson shows in sysfs: model, L4T release, power mode, temperatures, watts. Elsewhere: none."""

from pathlib import Path

from agents.platform.reading import Facts, number, text


def read(root: Path = Path("/")) -> Facts:
    """Return what is there; an empty dict on anything that is no Jetson."""
    release = text(root / "etc/nv_tegra_release")
    if release is None:
        return {}
    facts: Facts = {
        "l4t": release.splitlines()[0][:100] if release else None,
        "model": text(root / "proc/device-tree/model"),
        "power_mode": (text(root / "var/lib/nvpmodel/status") or "")[:40] or None,
        "power_w": _power_w(root),
    }
    facts.update(_temperatures(root))
    return {name: value for name, value in facts.items() if value is not None}


def _temperatures(root: Path) -> Facts:
    found: Facts = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*"))[:16]:
        name, value = text(zone / "type"), number(text(zone / "temp"))
        # A zone that is powered down cannot be read; some report a very low value instead.
        if name and value is not None and value > -100_000:
            found[f"temp_{name.removesuffix('-thermal')}_c"] = value / 1000
    return found


def _power_w(root: Path) -> float | None:
    """Return the watts of the input rail (VDD_IN) of the INA3221: millivolts times milliamperes."""
    for label in sorted(root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label")):
        if text(label) == "VDD_IN":
            channel = label.name.removeprefix("in").removesuffix("_label")
            volts = number(text(label.with_name(f"in{channel}_input")))
            amperes = number(text(label.with_name(f"curr{channel}_input")))
            if volts is not None and amperes is not None:
                return volts * amperes / 1e6
    return None
