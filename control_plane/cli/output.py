"""How commands print: tables for people, JSON, YAML or names for programs; and which exit status means what.

0 done · 1 refused or failed · 2 used wrongly · 3 not found · 4 the control plane cannot be reached or is not ready ·
130 stopped by Ctrl-C.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import typer
import yaml
from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from control_plane.client import ClientError, Unavailable

PIPED_WIDTH = 100_000
"""Columns of what is no terminal: nothing is wrapped or cut there."""
MOST = 200
CELL = 60


class Format(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


chosen: ContextVar[Format] = ContextVar("chosen", default=Format.TABLE)


def for_people() -> bool:
    return chosen.get() in (Format.TABLE, Format.WIDE)


def _width(file: Any) -> int | None:
    return None if file.isatty() else PIPED_WIDTH


# Emoji codes are names people may have given to things: they stay what they are.
console = Console(highlight=False, emoji=False, width=_width(sys.stdout))
errors = Console(stderr=True, highlight=False, emoji=False, width=_width(sys.stderr))


@dataclass(frozen=True, slots=True)
class View:
    """Which field names an item, and which of them are a table's columns; `wide` ones come besides."""

    key: str
    columns: tuple[str, ...]
    wide: tuple[str, ...] = ()

    def shown(self, chosen: Format) -> tuple[str, ...]:
        return self.columns + self.wide if chosen is Format.WIDE else self.columns


def show(items: Iterable[BaseModel], view: View, title: str = "") -> None:
    """Print items as the chosen format wants them."""
    how = chosen.get()
    if for_people():
        table(items, view.shown(how), title, whole=how is Format.WIDE)
    else:
        for item in items:
            typer.echo(text_of(item, view, how))


def show_one(item: BaseModel, view: View) -> None:
    """Print one item, every field of it."""
    how = chosen.get()
    if not for_people():
        typer.echo(text_of(item, view, how))
        return
    whole = how is Format.WIDE
    rows = [[words(name), cell(value, whole=whole)] for name, value in item.model_dump(mode="json").items()]
    _print_rows(rows, None, "")


def text_of(item: BaseModel, view: View, how: Format) -> str:
    """Return an item for programs: one line of JSON, a YAML document, or its name."""
    if how is Format.JSON:
        return harmless_json(item.model_dump_json())
    if how is Format.YAML:
        return "---\n" + harmless_yaml(item.model_dump(mode="json")).rstrip()
    return printable(str(getattr(item, view.key)))


def harmless_json(text: str) -> str:
    """Return the same JSON with what a terminal may take for a command written as an escape: it is always in strings.

    JSON escapes only what lies below the space; C1 controls and marks that turn the direction of writing lie above.
    """
    return "".join(c if c.isprintable() or c in "\n\t" or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in text)


def harmless_yaml(value: Any) -> str:
    """Return YAML as people would write it, or, where signs would turn the direction of writing, in plain letters."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    whole = all(c.isprintable() or c == "\n" for c in text)
    return text if whole else yaml.safe_dump(value, sort_keys=False, allow_unicode=False)


def table(items: Iterable[BaseModel], columns: Sequence[str], title: str = "", *, whole: bool = False) -> None:
    rows = [[cell(getattr(item, column), whole=whole) for column in columns] for item in items]
    _print_rows(rows, [words(column) for column in columns], title)


def _print_rows(rows: list[list[str]], header: list[str] | None, title: str) -> None:
    if not console.is_terminal:
        for line in plain(rows, header, title):
            typer.echo(line)
        return
    made = Table(title=Text(printable(title)) if title else None, header_style="bold", show_header=header is not None)
    for column in header or ("", ""):
        made.add_column(column)
    for row in rows:
        made.add_row(*map(Text, row))
    console.print(made)


def plain(rows: list[list[str]], header: list[str] | None, title: str) -> Iterator[str]:
    """Return lines for a pipe: columns under each other, no frames, nothing cut off."""
    lines = ([[name.upper() for name in header]] if header else []) + rows
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    if title:
        yield f"{printable(title)}:"
    for row in lines:
        padded = (text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True))
        yield "   ".join(padded).rstrip()


def words(name: str) -> str:
    return name.replace("_", " ")


def cell(value: Any, *, whole: bool = False) -> str:
    """Return a value for a table: on a terminal cut to what can be read, digests by their beginning unless `whole`."""
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list | tuple):
        value = json.dumps(value, default=str)
    text = printable(str(value))
    if whole:
        return text
    if len(text) == 64 and all(c in "0123456789abcdef" for c in text):
        return text[:12]
    return text if len(text) <= CELL or not console.is_terminal else f"{text[: CELL - 1]}…"


def printable(text: str) -> str:
    """Return text on one line, without what a terminal would take for commands."""
    return "".join(c if c.isprintable() else " " for c in text)


def literal(text: object) -> str:
    """Return what others wrote for the middle of a line with markup of our own: it comes out letter by letter."""
    return escape(printable(str(text)))


def say(line: str) -> None:
    """Print sentences to people, as they are: what others wrote is no markup, and no command to the terminal."""
    if for_people():
        console.print(Text("\n".join(map(printable, line.split("\n")))), soft_wrap=True)


def exit_status(error: ClientError) -> int:
    if isinstance(error, Unavailable):
        return 4
    return {404: 3, 422: 2, 400: 2}.get(error.status, 1)


def complain(code: str, detail: str, status: int) -> None:
    """Say what went wrong on stderr: one line for people, one JSON object for programs. `status` is HTTP's, or 0."""
    if chosen.get() is Format.JSON:
        typer.echo(json.dumps({"code": code, "detail": detail, "status": status}), err=True)
        return
    errors.print(Text.assemble((f"{printable(code)}:", "red"), " ", printable(detail)), soft_wrap=True)
