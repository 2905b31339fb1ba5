"""Ways in, how long a session lasts, what a password must be, and which role a provider's claim gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from control_plane.kit.roles import Role

IDLE = timedelta(hours=2)
LONGEST = timedelta(hours=12)
MIN_PASSWORD, MAX_PASSWORD = 12, 200
STRONGEST_FIRST = (Role.ADMIN, Role.APPROVER, Role.OPERATOR, Role.PIPELINE, Role.VIEWER)
MAX_GROUPS = 1000


class Way(StrEnum):
    TOKEN = "token"  # noqa: S105 - a word, no secret
    PASSWORD = "password"  # noqa: S105 - a word, no secret
    OIDC = "oidc"


@dataclass(frozen=True, slots=True)
class Entered:
    """Somebody who has come in."""

    name: str
    role: Role
    way: Way
    made_at: datetime


def lasts(made_at: datetime, seen_at: datetime, now: datetime) -> bool:
    """Say whether a session still counts: it ends when nobody uses it for a while, and after a day's work."""
    return now - seen_at < IDLE and now - made_at < LONGEST


def password_fault(password: str, name: str) -> str | None:
    """Say what is wrong with a new password, or None. Length is what counts; rules about signs make bad ones."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        return f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters"
    if len(set(password)) < 5:
        return "this password repeats too few characters"
    if name.lower() in password.lower():
        return "a password does not contain its owner's name"
    return None


def read_role_map(text: str) -> dict[str, Role]:
    """Read `group=role,other=role`.

    Raises:
        ValueError: it is not that.
    """
    found = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        group, sign, role = pair.rpartition("=")
        if not sign or not group.strip():
            raise ValueError(f"{pair!r} is not GROUP=ROLE")
        found[group.strip()] = Role(role.strip())
    return found


def role_of(claims: Mapping[str, Any], claim: str, roles: Mapping[str, Role]) -> Role | None:
    """Return the strongest role that a provider's claim (a word or a list of words) gives, or None."""
    said = claims.get(claim)
    groups = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    given = {roles[group] for group in groups[:MAX_GROUPS] if isinstance(group, str) and group in roles}
    return next((role for role in STRONGEST_FIRST if role in given), None)
