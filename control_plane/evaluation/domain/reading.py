"""Reads values of a policy out of mappings, with errors that say where and what."""

import math
from collections.abc import Mapping, Sequence


def known(item: Mapping[str, object], keys: set[str], where: str) -> None:
    unknown = sorted(str(key) for key in item if key not in keys)
    if unknown:
        raise ValueError(f"{where} has unknown keys {', '.join(unknown)}; it may have {', '.join(sorted(keys))}")


def text(item: Mapping[str, object], key: str, where: str, default: str | None = None) -> str:
    value = item.get(key, default)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}.{key} must be a text, not {value!r}")
    return value


def number(item: Mapping[str, object], key: str, where: str, default: float | None = None) -> float:
    value = item.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}.{key} must be a number, not {value!r}")
    return float(value)


def whole(item: Mapping[str, object], key: str, where: str, *, default: int | None = None, least: int = 0) -> int:
    value = item.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{where}.{key} must be a whole number from {least} on, not {value!r}")
    return value


def flag(item: Mapping[str, object], key: str, where: str) -> bool:
    value = item.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{where}.{key} must be true or false, not {value!r}")  # noqa: TRY004 - as above: one kind
    return value


def items(item: Mapping[str, object], key: str, *, required: bool = False) -> Sequence[object]:
    value = item.get(key, [])
    if not isinstance(value, list | tuple) or (required and not value):
        raise ValueError(f"gate: {key} must be a list{' with at least one rule' if required else ''}, not {value!r}")
    return value


def names(item: Mapping[str, object], key: str, where: str) -> tuple[str, ...]:
    found = items(item, key)
    if not all(isinstance(name, str) and name for name in found):
        raise ValueError(f"{where}.{key} must be a list of names, not {found!r}")
    return tuple(str(name) for name in found)


def mapping(item: Mapping[str, object], key: str, where: str) -> Mapping[str, object]:
    value = item.get(key, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}.{key} must be a mapping, not {value!r}")  # noqa: TRY004 - as above: one kind
    return value


def limits(item: Mapping[str, object], where: str) -> tuple[float, float] | None:
    """Between which values a metric lies; None where nobody says."""
    if "limits" not in item:
        return None
    found = items(item, "limits")
    if len(found) != 2:
        raise ValueError(f"{where}.limits must be two numbers, the least and the most the metric can be")
    low, high = (number({"limits": value}, "limits", where) for value in found)
    if not low < high:
        raise ValueError(f"{where}.limits are {low:g} and {high:g}; the first must be the smaller")
    return low, high
