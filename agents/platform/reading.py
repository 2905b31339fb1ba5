"""Small text files of the kernel, read without surprises."""

import math
from pathlib import Path

Facts = dict[str, str | int | float | None]


def text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(1 << 16).decode("utf-8", "replace").strip("\x00 \n")
    except OSError:
        return None


def number(value: str | None) -> float | None:
    try:
        found = None if value is None else float(value)
    except ValueError:
        return None
    return found if found is not None and math.isfinite(found) else None


def number_at(path: Path) -> float | None:
    return number(text(path))
