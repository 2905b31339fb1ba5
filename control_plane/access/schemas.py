"""Tokens and people as API and pages take and give them."""

from datetime import datetime

from pydantic import Field

from control_plane.access.domain import MAX_PASSWORD
from control_plane.kit.pages import Schema
from control_plane.kit.roles import Role

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}$"
MAX_REASON = 500


class TokenCreate(Schema):
    """A name for whoever calls, and what it may do."""

    name: str = Field(pattern=NAME)
    role: Role
    reason: str = Field(default="", max_length=MAX_REASON)


class TokenItem(Schema):
    """`last_used_at` is right to the minute."""

    name: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class Caller(Schema):
    """Whoever asks, and every role whose rights they have."""

    name: str
    role: Role
    may: list[Role]


class TokenMade(Schema):
    """`token` is shown this once."""

    name: str
    role: Role
    token: str


class PersonCreate(Schema):
    """A person who signs in with a password."""

    name: str = Field(pattern=NAME)
    role: Role
    password: str = Field(max_length=MAX_PASSWORD, repr=False)
    reason: str = Field(default="", max_length=MAX_REASON)


class PersonPatch(Schema):
    """What changes; every session of the person ends."""

    role: Role | None = None
    active: bool | None = None
    password: str | None = Field(default=None, max_length=MAX_PASSWORD, repr=False)
    reason: str = Field(min_length=1, max_length=MAX_REASON)


class PersonItem(Schema):
    """`provider`: an OIDC provider vouches for this person, and its claims give the role at each sign-in."""

    name: str
    role: Role
    active: bool
    provider: bool
    created_at: datetime
    last_seen_at: datetime | None
