"""How commands print: a table for people, JSON for programs; and which exit status means what.

0 done · 1 refused or failed · 2 used wrongly · 3 not found · 4 the control plane cannot be reached.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from control_plane.client import ClientError

console = Console()
errors = Console(stderr=True)


def show(items: Iterable[BaseModel], columns: Sequence[str], *, as_json: bool, title: str = "") -> None:
    """Print models as a table of some columns, or whole as JSON lines."""
    if as_json:
        for item in items:
            typer.echo(item.model_dump_json())
        return
    table = Table(title=title or None, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "))
    for item in items:
        table.add_row(*(_cell(getattr(item, column)) for column in columns))
    console.print(table)


def show_one(item: BaseModel, *, as_json: bool) -> None:
    if as_json:
        typer.echo(item.model_dump_json())
        return
    table = Table(show_header=False)
    for name, value in item.model_dump(mode="json").items():
        table.add_row(name.replace("_", " "), _cell(value, 200))
    console.print(table)


def _cell(value: Any, width: int = 60) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        value = json.dumps(value, default=str)
    text = str(value)
    if len(text) == 64 and all(c in "0123456789abcdef" for c in text):
        return text[:12]
    return text if len(text) <= width else f"{text[: width - 1]}…"


def guarded(command: Callable[[], None]) -> None:
    """Run a command; turn a client's failure into one line on stderr and a stable exit status."""
    try:
        command()
    except ClientError as error:
        errors.print(f"[red]{error.code}:[/red] {error.detail}", highlight=False)
        raise typer.Exit({0: 4, 404: 3, 401: 1, 422: 2}.get(error.status, 1)) from error
