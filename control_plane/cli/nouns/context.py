"""`fleetloop context` and `fleetloop init`: which servers there are, and a home for the first one."""

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from control_plane.cli import contexts
from control_plane.cli.answers import Answer, Items, One
from control_plane.cli.command import DryRun, Noun, TokenFile, Url, Verb
from control_plane.cli.contexts import LOCAL, Context, Contexts, contexts_file, read_contexts, write_contexts
from control_plane.cli.home import default_home
from control_plane.cli.nouns import views
from control_plane.cli.output import say


class ContextNoun(Noun):
    """`context NAME` uses it."""

    other = "use"


context = typer.Typer(cls=ContextNoun, help="Contexts: control planes by name, and the one that commands speak with.")
verb = Verb(context)
Name = Annotated[str, typer.Argument(help="its name here", autocompletion=lambda: [LOCAL, *read_contexts().contexts])]


class ContextItem(BaseModel):
    """`token` says where it is kept, never the token."""

    name: str
    current: bool
    url: str
    token: str


def items_of(kept: Contexts) -> list[ContextItem]:
    local = ContextItem(
        name=LOCAL, current=kept.current == LOCAL, url="", token=f"files in {default_home() / 'tokens'}"
    )
    return [local, *(_item(kept, name) for name in kept.contexts)]


def _item(kept: Contexts, name: str) -> ContextItem:
    each = kept.contexts[name]
    where = str(each.token_file) if each.token_file else "kept here" if each.token else "none"
    return ContextItem(name=name, current=kept.current == name, url=each.url, token=where)


@verb("list")
def list_contexts() -> Answer:
    """List control planes; `local` is the installation in FLEETLOOP_HOME.

    For example: fleetloop context list
    """
    return Items(items_of(read_contexts()), views.CONTEXT)


@verb("current")
def current() -> Answer:
    """Show the one that commands speak with, unless an option or a variable says otherwise.

    For example: fleetloop context current -o name
    """
    return One(next(item for item in items_of(read_contexts()) if item.current), views.CONTEXT)


def _keep(kept: Contexts, name: str, *, dry_run: bool) -> Answer:
    if dry_run:
        say(f"would write {contexts_file()}")
    else:
        write_contexts(kept)
    return One(next(item for item in items_of(kept) if item.name == name), views.CONTEXT)


@verb("use")
def use(name: Name, dry_run: DryRun = False) -> Answer:
    """Speak with this one from now on.

    For example: fleetloop context use plant
    """
    return _keep(contexts.used(read_contexts(), name), name, dry_run=dry_run)


@verb("add")
def add(
    name: Annotated[str, typer.Argument(help="a name for it")],
    url: Url = None,
    token_file: TokenFile = None,
    keep_token: Annotated[bool, typer.Option(help="copy the token, rather than to read its file each time")] = False,
    *,
    use_it: Annotated[bool, typer.Option("--use", help="speak with it from now on")] = False,
    dry_run: DryRun = False,
) -> Answer:
    """Add a control plane. Without --token-file the token is asked for, or comes from FLEETLOOP_TOKEN.

    For example: fleetloop context add plant --url https://fleet.example --token-file plant.token --use
    """
    kept = contexts.added(read_contexts(), name, _new(url, token_file, keep_token=keep_token), use=use_it)
    return _keep(kept, name, dry_run=dry_run)


def _new(url: str | None, token_file: Path | None, *, keep_token: bool) -> Context:
    if url is None:
        raise typer.BadParameter("say where it is: --url https://...")
    if token_file is None:
        token = os.environ.get("FLEETLOOP_TOKEN") or typer.prompt("token", hide_input=True, err=True)
        return Context(url=url, token=token)
    token = contexts.read_token(token_file)
    return Context(url=url, token=token) if keep_token else Context(url=url, token_file=token_file.resolve())


@verb("remove")
def remove(name: Name, dry_run: DryRun = False) -> Answer:
    """Forget a control plane and its token.

    For example: fleetloop context remove plant
    """
    kept = read_contexts()
    gone = _item(kept, name) if name in kept.contexts else None
    left = contexts.removed(kept, name)
    if dry_run:
        say(f"would write {contexts_file()}")
    else:
        write_contexts(left)
    return Items([gone] if gone else [], views.CONTEXT)


def init(
    home: Annotated[Path | None, typer.Option(help="folder to keep everything in; FLEETLOOP_HOME if unset")] = None,
    dry_run: DryRun = False,
) -> Answer:
    """Make a home that only you can read and a file for contexts, and say what comes next. Nothing is overwritten.

    For example: fleetloop init
    """
    folder = home or default_home()
    if dry_run:
        say(f"would make {folder} and {contexts_file()}")
    else:
        _make(folder)
        where = "" if home is None else f" --home {home}"
        say(f"next: fleetloop up{where}, then in another terminal: fleetloop doctor; or, to see it all: fleetloop demo")
        say("a control plane elsewhere: fleetloop context add NAME --url https://... --token-file FILE --use")
    return One(ContextItem(name=LOCAL, current=True, url="", token=f"files in {folder / 'tokens'}"), views.CONTEXT)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ignored = folder / ".gitignore"
    if not ignored.exists():
        ignored.write_text("# Keys, tokens and a database: none of it belongs into a repository.\n*\n")
    if not contexts_file().exists():
        write_contexts(Contexts())
