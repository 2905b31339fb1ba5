"""`fleetloop people`: who may sign in to the pages with a password."""

import sys
from typing import Annotated

import typer

from control_plane.access.schemas import PersonCreate, PersonPatch
from control_plane.cli.answers import Answer, Change, Items
from control_plane.cli.bodies import read_body
from control_plane.cli.command import Noun, Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.client import Calls
from control_plane.kit.roles import Role

people = typer.Typer(cls=Noun, help="People who sign in to the pages with a password.")
Name = Annotated[str, typer.Argument(help="the name to sign in with")]
MAX_LINE = 1000


@Verb(people)("list")
def list_people() -> Answer:
    """List who may sign in.

    For example: fleetloop people list
    """
    return Items(client("admin").list_people(), views.PERSON)


@Verb(people)("create", changes=True)
def create_person(
    name: Name,
    role: Annotated[Role, typer.Option(help="what they may do")] = Role.VIEWER,
    reason: Annotated[str, typer.Option(help="why; it is kept in the audit trail")] = "added on the command line",
) -> Answer:
    """Let a person sign in; the password is asked for, or read from standard input.

    For example: fleetloop people create bo --role viewer < password.txt
    """
    body = read_body(PersonCreate, name=name, role=role, password=_password(), reason=reason)
    return Change("admin", [Calls.create_person.ask(body)], views.PERSON)


@Verb(people)("change", changes=True)
def change_person(
    name: Name,
    reason: Annotated[str, typer.Option(help="why; it is kept in the audit trail")],
    role: Annotated[Role | None, typer.Option(help="the new role")] = None,
    shut_out: Annotated[
        bool | None, typer.Option("--shut-out/--let-in", help="end their access, or give it back")
    ] = None,
    password: Annotated[bool, typer.Option("--password", help="set a new password, asked for as by create")] = False,
) -> Answer:
    """Change a person's role, password or access; their sessions end.

    For example: fleetloop people change ada --role approver --reason "she joined the release board"
    """
    active = None if shut_out is None else not shut_out
    new = _password() if password else None
    body = read_body(PersonPatch, role=role, active=active, password=new, reason=reason)
    return Change("admin", [Calls.patch_person.ask(name, body)], views.PERSON)


def _password() -> str:
    """Ask for a password at a terminal, twice; else read the first line of standard input. It is never an argument."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline(MAX_LINE).rstrip("\r\n")
