"""Small text files of the kernel, read without surprises."""

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
        return None if value is None else float(value)
    except ValueError:
        return None
