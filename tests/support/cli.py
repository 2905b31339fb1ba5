"""The command line in this process: run it as typed, and know every command there is."""

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import typer.main
from typer.core import TyperGroup

from control_plane.cli import connection
from control_plane.cli.app import app, main
from control_plane.cli.command import COMMON

COMMAND = typer.main.get_command(app)


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


def fleetloop(*words: str) -> Ended:
    """Run a command; it gives a server that does not answer up at once."""
    out, err = io.StringIO(), io.StringIO()
    connection.patience_s.set(0.0)
    status = 0
    typed = sys.stdin if isinstance(sys.stdin, io.StringIO) else io.StringIO("what somebody types\n")
    with (
        mock.patch.object(sys, "argv", ["fleetloop", *words]),
        mock.patch.object(sys, "stdin", typed),
        mock.patch("typer.main.get_command", return_value=COMMAND),  # made once: it takes longer than most commands
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 0
    return Ended(status, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Typed:
    """One command by the words that name it."""

    words: tuple[str, ...]
    command: Any

    @property
    def name(self) -> str:
        return " ".join(self.words)

    @property
    def prints(self) -> bool:
        """Whether it has the options of commands that print items, and so speaks with a server or could."""
        return any(getattr(each, "rich_help_panel", None) == COMMON for each in self.command.params)

    @property
    def dry_runs(self) -> bool:
        return any(each.name == "dry_run" for each in self.command.params)

    def filled(self, folder: Path, thing: str = "nothing") -> list[str]:
        """Return the command with everything that it requires; `thing` is every id and name."""
        found = [*self.words]
        for each in self.command.params:
            if each.name == "reason":
                found += ["--reason", "a test"]
            elif each.name == "yes":
                found.append("--yes")
            elif each.required and each.param_type_name == "argument":
                found.append(_value(each, folder, thing))
            elif each.required:
                found += [each.opts[0], _value(each, folder, thing)]
        return found + EXTRA.get(self.name, [])


EXTRA = {"gates replay": ["nothing"], "gate replay": ["nothing"], "revoke": ["--release", "0" * 64]}
BY_NAME = {
    "release": "0" * 64,
    "content": "0" * 64,
    "action": "accept",
    "kind": "device",
    "roles": "root",
    "node": "device/nothing",
}


def kind_of(parameter: Any) -> Any:
    """Return the Python type of an option or argument."""
    return parameter.type_descriptor.annotation


def _value(parameter: Any, folder: Path, thing: str) -> str:
    if kind_of(parameter) is Path or parameter.name in {"policy", "file", "statement", "exported"}:
        made = folder / "given.yaml"
        made.write_text("parts: []\n")
        return str(made)
    return "1" if kind_of(parameter) is float else BY_NAME.get(parameter.name, thing)


def commands() -> list[Typed]:
    """Return every command, hidden ones too."""
    return list(_below((), COMMAND))


def _below(words: tuple[str, ...], command: Any) -> Iterator[Typed]:
    if not isinstance(command, TyperGroup):
        yield Typed(words, command)
        return
    for word, each in sorted(command.commands.items()):
        yield from _below((*words, word), each)
