"""`fleetloop person`: who may sign in to the pages with a password."""

import sys
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from control_plane.access.schemas import PersonCreate, PersonPatch
from control_plane.cli.commands import client
from control_plane.cli.output import guarded, show, show_one
from control_plane.kit.roles import Role

person = typer.Typer(no_args_is_help=True, help="People who sign in to the pages with a password.")
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Why = Annotated[str, typer.Option(help="why; it is kept in the audit trail")]
MAX_LINE = 1000
Body = TypeVar("Body", bound=BaseModel)


@person.command("add")
def add(
    name: str,
    role: Annotated[Role, typer.Option(help="what they may do")] = Role.VIEWER,
    reason: Why = "added on the command line",
    as_json: Json = False,
) -> None:
    """Let a person sign in; the password is asked for, or read from standard input.

    Examples:
      fleetloop person add ada --role operator
      fleetloop person add bo --role viewer < password.txt
    """
    body = _read(PersonCreate, name=name, role=role, password=_password(), reason=reason)
    guarded(lambda: show_one(client("admin").create_person(body), as_json=as_json))


@person.command("list")
def list_people(as_json: Json = False) -> None:
    """List who may sign in."""
    columns = ("name", "role", "active", "provider", "last_seen_at")
    guarded(lambda: show(client("admin").list_people(), columns, as_json=as_json))


@person.command("set")
def set_person(
    name: str,
    reason: Annotated[str, typer.Option(help="why; it is kept in the audit trail")],
    role: Annotated[Role | None, typer.Option(help="the new role")] = None,
    shut_out: Annotated[
        bool | None, typer.Option("--shut-out/--let-in", help="end their access, or give it back")
    ] = None,
    password: Annotated[bool, typer.Option("--password", help="set a new password, asked for as by add")] = False,
    as_json: Json = False,
) -> None:
    """Change a person's role, password or access; their sessions end.

    Example: fleetloop person set ada --role approver --reason "she joined the release board"
    """
    active = None if shut_out is None else not shut_out
    new = _password() if password else None
    body = _read(PersonPatch, role=role, active=active, password=new, reason=reason)
    guarded(lambda: show_one(client("admin").patch_person(name, body), as_json=as_json))


def _read(kind: type[Body], **values: object) -> Body:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise typer.BadParameter(f"{first['loc'][0]}: {first['msg']}") from error


def _password() -> str:
    """Ask for a password at a terminal, twice; else read the first line of standard input. It is never an argument."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline(MAX_LINE).rstrip("\r\n")
