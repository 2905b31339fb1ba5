"""Who is calling: API tokens with roles. Tokens are random, stored as sha256, shown once."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.kit.db import Row, Session, execute, row, rows
from control_plane.kit.errors import Conflict, Forbidden, Unauthenticated
from control_plane.kit.ids import new_id
from control_plane.kit.roles import MAY, Role


@dataclass(frozen=True, slots=True)
class Principal:
    name: str
    role: Role

    def must_be(self, role: Role) -> None:
        self.must_be_one_of((role,))

    def must_be_one_of(self, roles: tuple[Role, ...]) -> None:
        if not MAY[self.role] & set(roles):
            raise Forbidden(f"this needs the role {' or '.join(roles)}, and {self.name} is {self.role}")


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


async def create_token(session: Session, name: str, role: Role, token: str | None = None) -> str:
    """Make a token for a new name and return it; only its hash is kept."""
    token = token or f"fl_{secrets.token_urlsafe(32)}"
    made = await execute(
        session,
        "insert into kit_token (id, name, role, hash) values (:id, :name, :role, :hash) on conflict do nothing",
        id=new_id("tok"),
        name=name,
        role=role.value,
        hash=hash_token(token),
    )
    if not made:
        raise Conflict(f"there is a token called {name!r} already")
    return token


async def revoke_token(session: Session, name: str) -> bool:
    statement = "update kit_token set revoked_at = now() where name = :name and revoked_at is null"
    return bool(await execute(session, statement, name=name))


async def list_tokens(session: Session) -> Sequence[Row]:
    """Return who has a token, without the tokens."""
    statement = """select name, role, created_at, revoked_at, last_used_at
                   from kit_token order by created_at, name limit 1000"""
    return await rows(session, statement)


async def token_role(session: Session, name: str) -> Role | None:
    """Return the role of a name's token, if there is one and it is still good."""
    found = await row(session, "select role from kit_token where name = :name and revoked_at is null", name=name)
    return Role(found["role"]) if found else None


async def is_token_name(session: Session, name: str) -> bool:
    """Say whether a token has or had this name; a name is never given twice."""
    return await row(session, "select 1 from kit_token where name = :name", name=name) is not None


async def authenticate(session: Session, authorization: str | None) -> Principal:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("send 'Authorization: Bearer TOKEN'")
    return await principal_of(session, token)


async def principal_of(session: Session, token: str) -> Principal:
    found = await row(
        session,
        """select id, name, role, coalesce(last_used_at < now() - interval '1 minute', true) as unmarked
           from kit_token where hash = :hash and revoked_at is null""",
        hash=hash_token(token),
    )
    if found is None:
        raise Unauthenticated("this token is unknown or revoked")
    if found["unmarked"]:
        await _mark_used(session, found["id"])
    return Principal(found["name"], Role(found["role"]))


async def _mark_used(session: Session, token_id: str) -> None:
    """Write down that a token is used, to the minute; nobody waits for another request that does the same."""
    statement = """update kit_token set last_used_at = now()
                   where id = (select id from kit_token where id = :id for update skip locked)"""
    await execute(session, statement, id=token_id)
