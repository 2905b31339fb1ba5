"""What a command comes to: items, one item, a report, or a change that is still to be made."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import typer
import yaml
from pydantic import BaseModel, RootModel

from control_plane.cli.connection import client
from control_plane.cli.output import MOST, Format, View, chosen, for_people, say, show, show_one
from control_plane.client import Ask


@dataclass(frozen=True, slots=True)
class Items:
    """A list, of which as many are shown as can be read; programs get all of them."""

    items: Iterable[BaseModel]
    view: View
    title: str = ""

    def show(self) -> int:
        show(islice(self.items, MOST) if for_people() else self.items, self.view, self.title)
        return 0


@dataclass(frozen=True, slots=True)
class One:
    """One thing with all its fields. `below` are lists that people see beneath it; `status` is how the command ends."""

    item: BaseModel
    view: View
    below: Callable[[], Sequence[Items]] | None = None
    status: int = 0

    def show(self) -> int:
        show_one(self.item, self.view)
        if self.below is not None and for_people():
            for items in self.below():
                items.show()
        return self.status


class Raw(RootModel[dict[str, Any]]):
    """A mapping that has no schema of its own."""


@dataclass(frozen=True, slots=True)
class Report:
    """Something told to people in words of its own, and given to programs as it is."""

    models: Sequence[BaseModel]
    tell: Callable[[], None]
    key: str = ""
    status: int = 0

    def show(self) -> int:
        how = chosen.get()
        if for_people():
            self.tell()
        elif how is Format.NAME and not self.key:
            raise typer.BadParameter("-o name says nothing here: this has no names")
        else:
            show(self.models, View(self.key, ()))
        return self.status


@dataclass(frozen=True, slots=True)
class Document:
    """A text that has a format of its own, and is printed as it is."""

    text: str

    def show(self) -> int:
        typer.echo(self.text, nl=not self.text.endswith("\n"))
        return 0


@dataclass(frozen=True, slots=True)
class Change:
    """Requests that change something, by whom they may be made, and how their answers are shown."""

    role: str
    asks: Sequence[Ask[Any]]
    view: View | None = None
    done: str = ""
    status: Callable[[Any], int] = field(default=lambda _: 0)

    def show(self) -> int:
        answers = [client(self.role).make(ask) for ask in self.asks]
        for answer in answers:
            if self.view is not None:
                show_one(answer, self.view)
        if self.done:
            say(self.done)
        return self.status(answers[-1])

    def would(self) -> int:
        """Say what would be asked for, with what the server takes where nothing is said, and send nothing."""
        for ask in self.asks:
            _tell_request(ask)
        return 0


def _tell_request(ask: Ask[Any]) -> None:
    body = ask.body.model_dump(mode="json") if ask.body is not None else None
    if isinstance(body, dict) and body.get("password"):
        body["password"] = "(not shown)"  # noqa: S105 - a word that stands for it
    sent = {"method": ask.method, "path": f"/api/v1{ask.path}", "body": body}
    how = chosen.get()
    if how is Format.JSON:
        typer.echo(json.dumps(sent))
    elif how is Format.YAML:
        typer.echo("---\n" + yaml.safe_dump(sent, sort_keys=False).rstrip())
    else:
        typer.echo(f"would send {ask.method} /api/v1{ask.path}")
        if body is not None:
            typer.echo(json.dumps(body, indent=2))


Answer = Items | One | Report | Document | Change
