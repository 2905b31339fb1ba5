"""How a function becomes a command: the options that all have, and one way for all of them to end.

The function returns an `Answer`; whether that is printed, watched, or only said (`--dry-run`) is decided here.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from control_plane.cli import connection, output
from control_plane.cli.answers import Answer, Change
from control_plane.cli.connection import Where
from control_plane.cli.contexts import first_line
from control_plane.cli.output import Format, complain, exit_status
from control_plane.cli.watching import watch
from control_plane.client import ClientError
from control_plane.kit.errors import Problem

COMMON = "Options of every command"
_PANEL: Any = {"rich_help_panel": COMMON}
Output = Annotated[Format, typer.Option("--output", "-o", help="table, wide, json, yaml or name", **_PANEL)]
Json = Annotated[bool, typer.Option("--json", help="the same as -o json", **_PANEL)]
ContextName = Annotated[str | None, typer.Option("--context", help="speak with this server; see 'context'", **_PANEL)]
Url = Annotated[str | None, typer.Option("--url", help="speak with the server there", **_PANEL)]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="the token is in this file", **_PANEL)]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="look again and again until Ctrl-C")]
Every = Annotated[float, typer.Option("--every", min=0.1, help="seconds between looks")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be sent, and send nothing")]
SHARED: dict[str, tuple[Any, Any]] = {
    "output": (Output, Format.TABLE),
    "as_json": (Json, False),
    "context_name": (ContextName, None),
    "url": (Url, None),
    "token_file": (TokenFile, None),
}
WATCHED: dict[str, tuple[Any, Any]] = {"look_again": (Watch, False), "every": (Every, 2.0)}
DRY: dict[str, tuple[Any, Any]] = {"dry_run": (DryRun, False)}


class Noun(TyperGroup):
    """A group in which no verb means `list`, and a word that is no verb is a thing: `rollouts roll_01` shows it."""

    bare = "list"
    other = "get"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in {"--help", "--install-completion"}):
            args = [self.bare, *args]
        elif args[0] not in self.commands and not args[0].startswith("-"):
            args = [self.other, *args]
        return super().parse_args(ctx, args)


@dataclass(frozen=True, slots=True)
class Verb:
    """Registers functions in a group: `@verb("list", watched=True)`."""

    group: typer.Typer

    def __call__(
        self, name: str, *, watched: bool = False, changes: bool = False, hidden: bool = False
    ) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
        def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
            extra = SHARED | (WATCHED if watched else {}) | (DRY if changes else {})
            self.group.command(name, hidden=hidden)(_as_command(function, extra))
            return function

        return register


def _as_command(function: Callable[..., Answer], extra: dict[str, tuple[Any, Any]]) -> Callable[..., None]:
    own = inspect.signature(function, eval_str=True).parameters
    added = {name: each for name, each in extra.items() if name not in own}

    def command(**given: Any) -> None:
        with_all = {name: given.get(name, default) for name, (_, default) in extra.items()}
        words = {name: given[name] for name in own}
        raise typer.Exit(run(lambda: function(**words), with_all))

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own.values()]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in added.items()
    ]
    vars(command)["__signature__"] = inspect.Signature(parameters)  # typer reads the options there
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command


def run(function: Callable[[], Answer], options: dict[str, Any]) -> int:
    """Do what was asked in the way that was asked; return the exit status."""
    choose(options)

    def finish() -> int:
        if options.get("look_again"):
            return watch(function, options["every"])
        answer = function()
        return answer.would() if isinstance(answer, Change) and options.get("dry_run") else answer.show()

    return guarded(finish)


def choose(options: dict[str, Any]) -> None:
    """Keep how to print and with whom to speak, for all that is called from here."""
    output.chosen.set(Format.JSON if options["as_json"] else options["output"])
    said = Where(options["context_name"], options["url"], options["token_file"])
    connection.where.set(said.over(connection.where.get()))


def guarded(command: Callable[[], int]) -> int:
    """Run a command; turn a failure into one line on stderr and a stable exit status."""
    try:
        return command()
    except ClientError as error:
        complain(error.code, error.detail, error.status)
        return exit_status(error)
    except Problem as error:
        complain(error.code, error.detail, 0)
        return 1
    except ValidationError as error:
        complain("invalid", first_line(error), 0)
        return 2
