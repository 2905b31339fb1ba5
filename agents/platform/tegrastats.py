"""One line of tegrastats, token by token.

Every L4T release adds, drops and reshapes fields, so there is no expression for a whole line: a token nobody knows is
kept as it is, and a field that is missing is missing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_LINE_CHARS: Final = 8192
_BRACKETS: Final = {"[": "]", "(": ")"}
_DATE: Final = re.compile(r"^\d\d-\d\d-\d{4}$")
_TIME: Final = re.compile(r"^\d\d:\d\d:\d\d$")
_MEMORY: Final = re.compile(r"^(\d+)/(\d+)(kB|MB|GB)(?:\(.*)?$")
_TEMPERATURE: Final = re.compile(r"^([A-Za-z][\w-]*)@(-?\d+(?:\.\d+)?)C(?:/-?\d+(?:\.\d+)?C)*$")
_POWER: Final = re.compile(r"^(-?\d+)(mW)?(?:/(-?\d+)(?:mW)?)?(?:/(-?\d+)(?:mW)?)?$")
_RAIL: Final = re.compile(r"^[A-Z][A-Z0-9_]+$")
_ENGINE: Final = re.compile(r"^(?:off|(?:(\d+)%)?(?:@(\d+|\[[\d,]*\]))?|\d+)$")
_CORE: Final = re.compile(r"^(\d+)%@(\d+)$")
_KB: Final = {"kB": 1 / 1024, "MB": 1.0, "GB": 1024.0}
# Sensors that are powered down answer with this instead of an error.
_OFF_C: Final = -250.0


@dataclass(frozen=True)
class Power:
    """Watts of one rail: now, average since tegrastats started, and the peak where the line has a third number."""

    now_w: float
    average_w: float | None = None
    peak_w: float | None = None


@dataclass(frozen=True)
class Tegrastats:
    """What a line said. `engine_percent` has only engines with a figure: Thor gives GR3D a clock and no load."""

    stamp: str | None = None
    memory_mb: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    cpu_percent: tuple[float | None, ...] = ()
    engine_percent: Mapping[str, float] = field(default_factory=dict)
    engine_mhz: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    temperature_c: Mapping[str, float] = field(default_factory=dict)
    power: Mapping[str, Power] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def rails_w(self) -> dict[str, float]:
        return {name: power.now_w for name, power in self.power.items()}


@dataclass
class _Found:
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)
    cpu: tuple[float | None, ...] = ()
    percent: dict[str, float] = field(default_factory=dict)
    mhz: dict[str, tuple[int, ...]] = field(default_factory=dict)
    temperature: dict[str, float] = field(default_factory=dict)
    power: dict[str, Power] = field(default_factory=dict)
    stamp: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def parse(line: str) -> Tegrastats:
    """Return what a line says; a line of nonsense says nothing and keeps its tokens in `unknown`."""
    found = _Found()
    tokens = list(_tokens(line[:_LINE_CHARS]))
    at = 0
    while at < len(tokens):
        following = tokens[at + 1] if at + 1 < len(tokens) else ""
        at += _single(tokens[at], found) or _pair(tokens[at], following, found) or _unknown(tokens[at], found)
    return Tegrastats(
        " ".join(found.stamp) or None, found.memory, found.cpu, found.percent, found.mhz,
        found.temperature, found.power, tuple(found.unknown),
    )  # fmt: skip


def _tokens(line: str) -> Iterator[str]:
    """Split at blanks, but keep what stands in brackets together; an open bracket ends with the line."""
    token, closing = "", ""
    for char in line:
        if closing:
            token += char
            closing = "" if char == closing else closing
        elif char.isspace():
            if token:
                yield token
            token = ""
        else:
            token += char
            closing = _BRACKETS.get(char, "")
    if token:
        yield token


def _unknown(token: str, found: _Found) -> int:
    found.unknown.append(token)
    return 1


def _single(token: str, found: _Found) -> int:
    if _DATE.match(token) or _TIME.match(token):
        found.stamp.append(token)
        return 1
    temperature = _TEMPERATURE.match(token)
    if temperature is None:
        return 0
    if float(temperature[2]) > _OFF_C:
        found.temperature[temperature[1].lower()] = float(temperature[2])
    return 1


def _pair(name: str, value: str, found: _Found) -> int:
    """Return how many tokens were understood: a name and its value, or none."""
    memory = _MEMORY.match(value)
    if memory is not None and name in {"RAM", "SWAP", "IRAM"}:
        factor = _KB[memory[3]]
        found.memory[name] = (int(memory[1]) * factor, int(memory[2]) * factor)
        return 2
    if name == "CPU" and value.startswith("["):
        found.cpu = tuple(_core(each) for each in value.strip("[]").split(","))
        return 2
    if name.startswith("("):
        return 1  # details of the memory before it: largest free block, cached
    return _power(name, value, found) or _engine(name, value, found)


def _core(value: str) -> float | None:
    core = _CORE.match(value)
    return float(core[1]) if core else None


def _power(name: str, value: str, found: _Found) -> int:
    power = _POWER.match(value)
    # The first Nano gives no unit; then only the rail's name tells watts from a clock or from memory.
    if power is None or not _RAIL.match(name) or (power[2] is None and not name.startswith("POM_")):
        return 0
    now, average, peak = (None if part is None else int(part) / 1000 for part in (power[1], power[3], power[4]))
    found.power[name] = Power(now or 0.0, average, peak)
    return 2


def _engine(name: str, value: str, found: _Found) -> int:
    engine = _ENGINE.match(value)
    if engine is None or not value or not name.replace("_", "").isalnum() or not name[0].isupper():
        return 0
    key = name.removesuffix("_FREQ")
    if engine[1] is not None:
        found.percent[key] = float(engine[1])
    clocks = engine[2] or (value if value.isdigit() else "")
    if clocks:
        found.mhz[key] = tuple(int(each) for each in clocks.strip("[]").split(",") if each)
    return 2
