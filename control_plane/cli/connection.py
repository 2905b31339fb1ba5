"""Which control plane a command speaks with, and as whom.

The first of these that says it: `--url` and `--token-file`; `--context` or FLEETLOOP_CONTEXT; FLEETLOOP_SERVER and
FLEETLOOP_TOKEN; the context that `fleetloop context use` chose; the installation in FLEETLOOP_HOME.
"""

import json
import os
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import typer

from control_plane.cli.contexts import LOCAL, Context, find, read_contexts, read_token
from control_plane.cli.home import default_home
from control_plane.client import Client

PATIENCE_S = 5.0
NoServer = typer.BadParameter
"""Nothing says which control plane is meant."""


@dataclass(frozen=True, slots=True)
class Where:
    """What was said on the command line."""

    context: str | None = None
    url: str | None = None
    token_file: Path | None = None

    def over(self, other: "Where") -> "Where":
        """Return this where it says something, else the other."""
        return Where(self.context or other.context, self.url or other.url, self.token_file or other.token_file)


NOWHERE = Where()
where: ContextVar[Where] = ContextVar("where", default=NOWHERE)
patience_s: ContextVar[float] = ContextVar("patience_s", default=PATIENCE_S)
_open: dict[tuple[str, str], Client] = {}


def client(role: str = "operator") -> Client:
    """Return a client; `role` chooses among the tokens of an installation on this machine."""
    address = resolve(role)
    if address not in _open:
        _open[address] = Client(*address, patience_s=patience_s.get())
    return _open[address]


def close() -> None:
    """Close every client that was opened."""
    for each in _open.values():
        each.close()
    _open.clear()


def resolve(role: str) -> tuple[str, str]:
    """Return URL and token.

    Raises:
        NoServer: nothing says which. NotFound, Invalid, Refused: what says it cannot be read.
    """
    said, home = where.get(), running_home()
    context = _context(said)
    url = said.url or (context.url if context else os.environ.get("FLEETLOOP_SERVER"))
    token = _token(said, context)
    if url is None and home is not None:
        url = stack_of(home).get("url")
    if token is None and home is not None and (url is None or url == stack_of(home).get("url")):
        token = read_token(home / "tokens" / f"{role}.token")
    if not url or not token:
        raise NoServer(
            "no control plane: start 'fleetloop up', choose one with 'fleetloop context', "
            "or set FLEETLOOP_SERVER and FLEETLOOP_TOKEN"
        )
    return url, token


def _context(said: Where) -> Context | None:
    """Return the context that counts, if one does: environment variables go before the one chosen earlier."""
    name = said.context or os.environ.get("FLEETLOOP_CONTEXT")
    if name is None:
        if said.url or os.environ.get("FLEETLOOP_SERVER") or os.environ.get("FLEETLOOP_HOME"):
            return None
        name = read_contexts().current
    return None if name == LOCAL else find(read_contexts(), name)


def _token(said: Where, context: Context | None) -> str | None:
    if said.token_file is not None:
        return read_token(said.token_file)
    if context is None:
        return os.environ.get("FLEETLOOP_TOKEN")
    return read_token(context.token_file) if context.token_file else context.token


def running_home() -> Path | None:
    """Return where an installation runs on this machine."""
    for home in (default_home(), default_home() / "demo"):
        if (home / "stack.json").exists():
            return home
    return None


def stack_of(home: Path) -> dict[str, str]:
    """Return what `fleetloop up` wrote about where everything is; nothing if it cannot be read."""
    try:
        found = json.loads((home / "stack.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
