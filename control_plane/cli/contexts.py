"""Servers by name, in a file only its owner reads: where each is, and the token or the file that holds it."""

import os
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control_plane.kit.errors import Conflict, Invalid, NotFound, Refused

LOCAL = "local"
"""Always there: the installation in FLEETLOOP_HOME."""


class Context(BaseModel):
    """One server; `token_file` is read at each call, so that a rotated token is taken up."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(pattern=r"^https?://\S+$")
    token: str | None = None
    token_file: Path | None = None


class Contexts(BaseModel):
    model_config = ConfigDict(extra="forbid")

    current: str = LOCAL
    contexts: dict[str, Context] = Field(default_factory=dict)


def config_folder() -> Path:
    """Return FLEETLOOP_CONFIG_DIR, else `fleetloop` in the user's config folder."""
    given, base = os.environ.get("FLEETLOOP_CONFIG_DIR"), os.environ.get("XDG_CONFIG_HOME")
    if given:
        return Path(given)
    return (Path(base) if base else Path.home() / ".config") / "fleetloop"


def contexts_file() -> Path:
    return config_folder() / "contexts.yaml"


def read_contexts() -> Contexts:
    """Return what is kept; nothing but `local` without a file.

    Raises:
        Refused: others may read the file. Invalid: it makes no sense.
    """
    path = contexts_file()
    if not path.exists():
        return Contexts()
    if path.stat().st_mode & 0o077:
        raise Refused(f"{path} holds tokens and others may read it; run: chmod 600 {path}", code="contexts_readable")
    try:
        return Contexts.model_validate(yaml.safe_load(path.read_text()) or {})
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {first_line(error)}", code="contexts_unreadable") from error


def write_contexts(kept: Contexts) -> None:
    """Write all of it, or leave the old file as it is."""
    path = contexts_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    text = yaml.safe_dump(kept.model_dump(mode="json", exclude_none=True), sort_keys=False)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def find(kept: Contexts, name: str) -> Context:
    if name not in kept.contexts:
        known = ", ".join([LOCAL, *kept.contexts])
        raise NotFound(f"there is no context {name}; there are {known}")
    return kept.contexts[name]


def added(kept: Contexts, name: str, context: Context, *, use: bool) -> Contexts:
    if name == LOCAL or name in kept.contexts:
        raise Conflict(f"there is a context {name} already; remove it first")
    return Contexts(current=name if use else kept.current, contexts=kept.contexts | {name: context})


def removed(kept: Contexts, name: str) -> Contexts:
    find(kept, name)
    left = {each: context for each, context in kept.contexts.items() if each != name}
    return Contexts(current=LOCAL if kept.current == name else kept.current, contexts=left)


def used(kept: Contexts, name: str) -> Contexts:
    if name != LOCAL:
        find(kept, name)
    return kept.model_copy(update={"current": name})


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        Invalid: there is none.
    """
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"the token file {path} cannot be read: {first_line(error)}", code="no_token") from error
    if not token or not token.isprintable() or not token.isascii():
        raise Invalid(f"{path} holds no token", code="no_token")
    return token


def first_line(error: Exception) -> str:
    """Return what an error says, on one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"]
    return " ".join(str(error).split())
