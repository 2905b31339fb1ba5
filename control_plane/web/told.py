"""Mappings that people wrote or programs kept, told line by line: ids lead to their pages, nothing is raw JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from control_plane.lineage.domain import Kind
from control_plane.web.labels import PAGES
from control_plane.web.names import Names
from control_plane.web.render import NONE, fact, short_id, words

IDS = {"gate_": PAGES[Kind.GATE], "roll_": PAGES[Kind.ROLLOUT], "run_": "/runs/", "dev_": PAGES[Kind.DEVICE]}
LINKED = {"release": PAGES[Kind.RELEASE], "dataset": f"/lineage/{Kind.DATASET}/"}
LONG = 48
DEEPEST = 4
PART = ("suite", "rule", "metric")


@dataclass(frozen=True, slots=True)
class Told:
    """`href` leads to what the words name; `whole` is what they shorten."""

    name: str
    words: str
    href: str = ""
    whole: str = ""

    @property
    def long(self) -> bool:
        return len(self.words) > LONG


@dataclass(frozen=True, slots=True)
class Rule:
    """One part of a gate's policy, with its limits in words."""

    suite: str
    rule: str
    metric: str
    limits: str


def told(names: Names, mapping: Mapping[str, Any]) -> list[Told]:
    """Tell a mapping; what lies deeper is named by its path, and an empty value is told as none."""
    return [_value(names, " ".join(path), path[-1], value) for path, value in _leaves(mapping, ())]


def _leaves(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, Mapping) and value and len(path) < DEEPEST:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, words(key)))
    elif isinstance(value, (list, tuple)) and any(isinstance(each, (Mapping, list)) for each in value):
        for place, inner in enumerate(value, 1):
            yield from _leaves(inner, (*path, str(place)))
    elif path:
        yield path, value


def _value(names: Names, name: str, last: str, value: object) -> Told:
    if value is None or value in ("", [], {}, ()):
        return Told(name, NONE)
    if isinstance(value, (list, tuple)):
        return Told(name, "; ".join(_value(names, "", last, each).words for each in value))
    if not isinstance(value, str):
        return Told(name, fact(value))
    if value in names.versions:
        return Told(name, names.label(value), f"/versions/{value}", value)
    return _linked(name, last, value)


def _linked(name: str, last: str, value: str) -> Told:
    href = LINKED.get(last) or next((page for prefix, page in IDS.items() if value.startswith(prefix)), None)
    if href is None:
        return Told(name, value)
    return Told(name, short_id(value) if "_" in value else value[:12], href + quote(value, safe=""), value)


def rules_of(parts: Sequence[Mapping[str, Any]], metric: str) -> list[Rule]:
    """Tell the parts of a gate's policy, each with the limits it was given."""
    return [
        Rule(
            str(part.get("suite") or NONE),
            words(part.get("rule", "")),
            words(part.get("metric", metric)),
            ", ".join(_limit(key, value) for key, value in part.items() if key not in PART) or NONE,
        )
        for part in parts
    ]


def _limit(key: str, value: object) -> str:
    if value is True:
        return words(key)
    inner = ", ".join(str(each) for each in value) if isinstance(value, (list, tuple)) else fact(value)
    return f"{words(key)} {inner}"
