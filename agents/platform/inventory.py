"""What a Jetson is made of: module, L4T, JetPack, CUDA, TensorRT, power mode by name. Read from files alone.

Power modes have numbers that mean another thing on every module, so only the name leaves this file.
"""

import re
from pathlib import Path
from typing import Final

from agents.platform.reading import Facts, text
from agents.protocol.v1 import strict_json

_RELEASE: Final = re.compile(r"^# R(\d+) \(release\), REVISION: ([\d.]+)")
_MODE: Final = re.compile(r"pmode:(\d+)")
_MODEL: Final = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")
_PACKAGES: Final = re.compile(r"^(nvidia-jetpack|libnvinfer\d+|nvidia-l4t-core)$")
_STATUS_BYTES: Final = 64 << 20
# What the GPU of a system on chip can run; TensorRT engines are bound to it.
_SM: Final = {"tegra210": "5.3", "tegra186": "6.2", "tegra194": "7.2", "tegra234": "8.7", "tegra264": "11.0"}


def is_jetson(root: Path) -> bool:
    return text(root / "etc/nv_tegra_release") is not None or soc(root) is not None


def l4t(root: Path) -> str | None:
    release = text(root / "etc/nv_tegra_release") or ""
    found = _RELEASE.match(release)
    return f"{found[1]}.{found[2]}" if found else release.splitlines()[0][:100] if release else None


def soc(root: Path) -> str | None:
    compatible = (text(root / "proc/device-tree/compatible") or "").split("\x00")
    return next((each.removeprefix("nvidia,") for each in compatible if each.startswith("nvidia,tegra")), None)


def power_mode(root: Path) -> str | None:
    """Return the name of the power mode; None if its number has no name here."""
    mode = _MODE.search(text(root / "var/lib/nvpmodel/status") or "")
    if mode is None:
        return None
    names = {int(number): name for number, name in _MODEL.findall(text(root / "etc/nvpmodel.conf") or "")}
    return names.get(int(mode[1]))


def cuda(root: Path) -> str | None:
    data = text(root / "usr/local/cuda/version.json")
    try:
        value = strict_json(data.encode(), 1 << 16) if data else {}
        return str(value["cuda"]["version"])[:40] if value else None
    except (ValueError, KeyError, TypeError):
        return None


def packages(root: Path) -> dict[str, str]:
    """Return the versions of NVIDIA's packages that Debian's list has as installed."""
    found: dict[str, str] = {}
    path = root / "var/lib/dpkg/status"
    try:
        if path.stat().st_size > _STATUS_BYTES:
            return {}
        with path.open(encoding="utf-8", errors="replace") as lines:
            name = ""
            for line in lines:
                if line.startswith("Package: "):
                    name = line[9:].strip()
                elif line.startswith("Version: ") and _PACKAGES.match(name):
                    found[name] = line[9:].strip()[:60]
    except OSError:
        return {}
    return found


def inventory(root: Path) -> Facts:
    installed = packages(root)
    chip = soc(root)
    trt = next((value for name, value in sorted(installed.items()) if name.startswith("libnvinfer")), None)
    facts: Facts = {
        "l4t": l4t(root),
        "jetpack": installed.get("nvidia-jetpack"),
        "cuda": cuda(root),
        "tensorrt": trt.split("-")[0] if trt else None,
        "model": text(root / "proc/device-tree/model"),
        "soc": chip,
        "gpu_sm": _SM.get(chip or ""),
    }
    return {name: value for name, value in facts.items() if value is not None}
