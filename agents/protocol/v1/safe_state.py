"""When a device may switch models: a small expression that the server checks and the device asks.

    stopped and docked and battery >= 30 and temperature_c < 70 and not metered
    and between("22:00", "05:00", "Europe/Berlin")

- terms that hold or not: `safe_to_switch` `stopped` `moving` `docked` `external_power` `metered` `throttled`
- quantities, compared by `<` `<=` `>` `>=` with a number: `battery` (%), `temperature_c`, `load` (per core),
  `gpu_load` (%), `speed_m_s`
- `between("22:00", "05:00", "Europe/Berlin")`: local time of day, from inclusive, to exclusive, may pass midnight
- `not`, `and`, `or` (in this order of strength) and parentheses

The logic has three values: what is not known is not safe, and the answer says what is not known. No clock, no files but
the time zones'.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, time
from typing import Final
from zoneinfo import ZoneInfo

MAX_CHARS: Final = 500
MAX_JOINED_CHARS: Final = 1024
"""Of what rollout and device class set together, each within MAX_CHARS."""
SITE_GRANT_S: Final = 60.0
"""How long a device may use the server's word that its site is free; one that did not asks again."""
_CHARS_PER_TOKEN: Final = 4
_DEPTH_MAX: Final = 12
_STANDING_M_S: Final = 0.02


class SafeStateError(ValueError):
    """The expression cannot be read; the message shows where. `at` counts characters from 0."""

    def __init__(self, problem: str, text: str, at: int) -> None:
        part = text[max(0, at - 20) : at + 20]
        super().__init__(
            f"safe state, character {at + 1}: {problem} (at ...{part!r})" if part else f"safe state: {problem}"
        )
        self.at = at


@dataclass(frozen=True)
class Circumstances:
    """What is so now; None is not known. `now` is None while the clock cannot be trusted."""

    safe_to_switch: bool | None = None
    stopped: bool | None = None
    docked: bool | None = None
    external_power: bool | None = None
    metered: bool | None = None
    throttled: bool | None = None
    battery: float | None = None
    temperature_c: float | None = None
    load: float | None = None
    gpu_load: float | None = None
    speed_m_s: float | None = None
    now: datetime | None = None


@dataclass(frozen=True)
class Wait:
    """One thing that is missing: `term` stays the same while it is missing, `words` carry today's figures."""

    term: str
    words: str


def _not_known(term: str, what: str) -> Wait:
    # Another lack than a reading that is too high.
    return Wait(f"{term}?", f"not known: {what}")


@dataclass(frozen=True)
class _Flag:
    name: str
    wanted: bool

    def holds(self, seen: Circumstances) -> bool | None:
        value: bool | None = getattr(seen, self.name)
        return None if value is None else value is self.wanted

    def missing(self, seen: Circumstances) -> tuple[Wait, ...]:
        term = f"{'' if self.wanted else 'not '}{self.name}"
        if self.holds(seen) is None:
            return (_not_known(term, _NAMED[self.name]),)
        return (Wait(term, _BLOCKED[self.name, self.wanted]),)


@dataclass(frozen=True)
class _Compared:
    name: str
    sign: str
    limit: float

    def holds(self, seen: Circumstances) -> bool | None:
        value: float | None = getattr(seen, self.name)
        return None if value is None or math.isnan(value) else _SIGNS[self.sign](value, self.limit)

    def missing(self, seen: Circumstances) -> tuple[Wait, ...]:
        what, unit, high, low = _QUANTITIES[self.name]
        value, term = getattr(seen, self.name), f"{self.name} {self.sign} {self.limit:g}"
        if self.holds(seen) is None:
            return (_not_known(term, what),)
        lead = high if self.sign[0] == "<" else low
        return (Wait(term, f"{lead} {value:.4g} {_OPPOSITE[self.sign]} {self.limit:g}{unit}"),)


@dataclass(frozen=True)
class _Between:
    start: time
    end: time
    zone: str
    wanted: bool = True

    def holds(self, seen: Circumstances) -> bool | None:
        local = self._local(seen)
        if local is None:
            return None
        if self.start <= self.end:
            return (self.start <= local < self.end) is self.wanted
        return (local >= self.start or local < self.end) is self.wanted

    def missing(self, seen: Circumstances) -> tuple[Wait, ...]:
        local = self._local(seen)
        window = f"{self.start:%H:%M}-{self.end:%H:%M} {self.zone}"
        term = f"{'' if self.wanted else 'not '}between {window}"
        if local is None:
            return (_not_known(term, f"whether it is {window} (no trusted clock, or no such time zone here)"),)
        return (Wait(term, f"it is {local:%H:%M}, {'outside' if self.wanted else 'inside'} {window}"),)

    def _local(self, seen: Circumstances) -> time | None:
        if seen.now is None or seen.now.tzinfo is None:
            return None
        zone = _zone(self.zone)
        return None if zone is None else seen.now.astimezone(zone).time()


@dataclass(frozen=True)
class _Joined:
    """`every`: all parts must hold, else one of them."""

    every: bool
    parts: "tuple[_Node, ...]"

    def holds(self, seen: Circumstances) -> bool | None:
        values = [part.holds(seen) for part in self.parts]
        if (not self.every) in values:
            return not self.every
        return None if None in values else self.every

    def missing(self, seen: Circumstances) -> tuple[Wait, ...]:
        waits = tuple(one for part in self.parts if part.holds(seen) is not True for one in part.missing(seen))
        if self.every or len(waits) < 2:
            return waits
        return (Wait(" or ".join(one.term for one in waits), "one of: " + ", or ".join(one.words for one in waits)),)


_Node = _Flag | _Compared | _Between | _Joined


@dataclass(frozen=True)
class Answer:
    """`waits` is empty exactly if it is safe."""

    ok: bool
    waits: tuple[Wait, ...] = ()


class SafeState:
    """An expression that was read. Equal texts mean the same; the text is kept as it came."""

    def __init__(self, text: str, node: _Node) -> None:
        self.text, self._node = text, node

    def ask(self, seen: Circumstances) -> Answer:
        return Answer(ok=True) if self._node.holds(seen) is True else Answer(False, self._node.missing(seen))

    @property
    def zones(self) -> frozenset[str]:
        return frozenset(node.zone for node in _leaves(self._node) if isinstance(node, _Between))


def parse(text: str, max_chars: int = MAX_CHARS) -> SafeState:
    """Read an expression.

    Raises:
        SafeStateError: it is too long, too deep, or not one.
    """
    if len(text) > max_chars:
        raise SafeStateError(f"longer than {max_chars} characters", "", 0)
    tokens = list(_tokens(text))
    if len(tokens) > max_chars // _CHARS_PER_TOKEN:
        raise SafeStateError(f"more than {max_chars // _CHARS_PER_TOKEN} words and signs", "", 0)
    return SafeState(text, _Parser(text, tokens).read())


def all_of(texts: Iterable[str]) -> str:
    """Return the expression that holds if each of these does; the strictest wins."""
    said = list(dict.fromkeys(text for text in texts if text.strip()))
    return said[0] if len(said) == 1 else " and ".join(f"({text})" for text in said)


def check(text: str) -> str:
    """Return the text if it can be read and its time zones exist here; empty means: nothing is asked.

    Raises:
        SafeStateError: otherwise.
    """
    if not text.strip():
        return ""
    for zone in sorted(parse(text).zones):
        if _zone(zone) is None:
            raise SafeStateError(f"there is no time zone {zone!r}", text, text.index(zone))
    return text


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


_TOKEN: Final = re.compile(
    r"(?P<space>[ \t\r\n]+)|(?P<number>-?[0-9]{1,9}(?:\.[0-9]{1,6})?)|(?P<sign><=|>=|<|>)|(?P<mark>[(),%])"
    r'|(?P<text>"[A-Za-z0-9_:/+-]{1,64}")|(?P<word>[a-z][a-z0-9_]{0,39})'
)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise SafeStateError("this means nothing here", text, at)
        if found.lastgroup != "space":
            yield _Token(str(found.lastgroup), found[0], at)
        at = found.end()


class _Parser:
    """Recursive descent, as deep as `_DEPTH_MAX`; `not` is pushed down to the terms on the way."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text, self._tokens, self._next, self._depth = text, tokens, 0, 0

    def read(self) -> _Node:
        node = self._either(wanted=True)
        if self._next < len(self._tokens):
            raise self._wrong("'and', 'or' or the end is expected")
        return node

    def _either(self, *, wanted: bool) -> _Node:
        return self._chain("or", lambda: self._both(wanted=wanted), every=not wanted)

    def _both(self, *, wanted: bool) -> _Node:
        return self._chain("and", lambda: self._one(wanted=wanted), every=wanted)

    def _chain(self, word: str, part: Callable[[], _Node], *, every: bool) -> _Node:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else _Joined(every, tuple(parts))

    def _one(self, *, wanted: bool) -> _Node:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise self._wrong(f"nested deeper than {_DEPTH_MAX}")
        if self._take("not"):
            node = self._one(wanted=not wanted)
        elif self._take("("):
            node = self._either(wanted=wanted)
            self._need(")")
        else:
            node = self._term(wanted=wanted)
        self._depth -= 1
        return node

    def _term(self, *, wanted: bool) -> _Node:
        word = self._kind("word", "a term is expected")
        if word.text in _FLAGS:
            name, value = _FLAGS[word.text]
            return _Flag(name, value is wanted)
        if word.text in _QUANTITIES:
            return self._compared(word.text, wanted=wanted)
        if word.text == "between":
            return self._between(wanted=wanted)
        self._next -= 1
        raise self._wrong(f"{word.text!r} is no term; there are {', '.join(sorted((*_FLAGS, *_QUANTITIES)))}, between")

    def _compared(self, name: str, *, wanted: bool) -> _Node:
        sign = self._kind("sign", f"'{name}' wants <, <=, > or >= and a number").text
        limit = float(self._kind("number", "a number is expected").text)
        if name in ("battery", "gpu_load"):
            self._take("%")
        return _Compared(name, sign if wanted else _OPPOSITE[sign], limit)

    def _between(self, *, wanted: bool) -> _Node:
        self._need("(")
        start = self._time_of_day()
        self._need(",")
        end = self._time_of_day()
        self._need(",")
        zone = self._kind("text", 'a time zone like "Europe/Berlin" is expected').text.strip('"')
        self._need(")")
        if start == end:
            self._next -= 1
            raise self._wrong("a window from a time to the same time is empty")
        return _Between(start, end, zone, wanted)

    def _time_of_day(self) -> time:
        text = self._kind("text", 'a time like "22:00" is expected').text.strip('"')
        if re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text) is None:
            self._next -= 1
            raise self._wrong('a time like "22:00" is expected')
        return time(int(text[:2]), int(text[3:]))

    def _take(self, text: str) -> bool:
        if self._next < len(self._tokens) and self._tokens[self._next].text == text:
            self._next += 1
            return True
        return False

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise self._wrong(f"{text!r} is expected")

    def _kind(self, kind: str, problem: str) -> _Token:
        if self._next >= len(self._tokens) or self._tokens[self._next].kind != kind:
            raise self._wrong(problem)
        self._next += 1
        return self._tokens[self._next - 1]

    def _wrong(self, problem: str) -> SafeStateError:
        at = self._tokens[self._next].at if self._next < len(self._tokens) else len(self._text)
        return SafeStateError(problem if self._next < len(self._tokens) else f"it ends where {problem}", self._text, at)


def _leaves(node: _Node) -> Iterator[_Node]:
    if isinstance(node, _Joined):
        for part in node.parts:
            yield from _leaves(part)
    else:
        yield node


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return None


def standing(speed_m_s: float | None, safe_to_switch: bool | None) -> bool | None:
    """Return whether a robot stands; without a speed its own word that it may switch stands in for it."""
    return safe_to_switch if speed_m_s is None else abs(speed_m_s) < _STANDING_M_S


_SIGNS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_OPPOSITE: Final = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
# What a person writes: which of the circumstances, and which value of it.
_FLAGS: Final = {
    "safe_to_switch": ("safe_to_switch", True), "stopped": ("stopped", True), "moving": ("stopped", False),
    "docked": ("docked", True), "external_power": ("external_power", True), "metered": ("metered", True),
    "throttled": ("throttled", True),
}  # fmt: skip
# What it is, its unit, and what it is called when it is too high or too low.
_QUANTITIES: Final = {
    "battery": ("the battery's charge", " %", "battery", "battery"),
    "temperature_c": ("the temperature", " °C", "hot:", "cold:"),
    "load": ("the load", " per core", "busy: load", "load"),
    "gpu_load": ("the GPU's load", " %", "GPU busy:", "GPU load"),
    "speed_m_s": ("the speed", " m/s", "too fast:", "speed"),
}
_NAMED: Final = {
    "safe_to_switch": "whether the robot may switch (no word from the application, or an old one)",
    "stopped": "whether the robot stands (no word from the application, or an old one)",
    "docked": "whether the robot is docked (no word from the application, or an old one)",
    "external_power": "whether there is external power", "metered": "whether the network is metered",
    "throttled": "whether the computer is throttled",
}  # fmt: skip
_BLOCKED: Final = {
    ("safe_to_switch", True): "the application says not now", ("safe_to_switch", False): "the application says now",
    ("stopped", True): "moving", ("stopped", False): "stopped",
    ("docked", True): "not docked", ("docked", False): "docked",
    ("external_power", True): "on battery", ("external_power", False): "on external power",
    ("metered", True): "the network is not metered", ("metered", False): "the network is metered",
    ("throttled", True): "not throttled", ("throttled", False): "throttled",
}  # fmt: skip
