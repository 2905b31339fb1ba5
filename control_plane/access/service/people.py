"""People: made and changed by an admin, or made at their first sign-in with a provider."""

import re

from control_plane.access import store
from control_plane.access.domain import Way, password_fault
from control_plane.access.models import Person
from control_plane.access.schemas import NAME, PersonCreate, PersonItem, PersonPatch
from control_plane.access.service.passwords import Passwords
from control_plane.audit import service as audit
from control_plane.kit import clock
from control_plane.kit.auth import is_token_name
from control_plane.kit.db import Session
from control_plane.kit.errors import Conflict, Forbidden, Invalid, NotFound
from control_plane.kit.ids import new_id
from control_plane.kit.roles import Role

MOST_PEOPLE = 10_000


class WrongPassword(Forbidden):
    code = "password_wrong"


async def create_person(session: Session, passwords: Passwords, actor: str, body: PersonCreate) -> PersonItem:
    hashed = await _hashed(passwords, body.password, body.name)
    person = await _new(session, body.name, body.role, password=hashed)
    await audit.record(session, actor, "person.create", body.name, body.reason, role=body.role)
    return _item(person)


async def _hashed(passwords: Passwords, password: str, name: str) -> str:
    fault = password_fault(password, name)
    if fault is not None:
        raise Invalid(fault, code="password_refused")
    return await passwords.hash(password)


async def _new(
    session: Session, name: str, role: Role, *, password: str | None = None, subject: str | None = None
) -> Person:
    await store.lock_names(session)
    if await is_token_name(session, name) or await store.find_person(session, name) is not None:
        raise Conflict(f"the name {name!r} is taken")
    person = Person(id=new_id("per"), name=name, role=role, password=password, subject=subject, active=True)
    session.add(person)
    await session.flush()
    await session.refresh(person)
    return person


async def patch_person(session: Session, passwords: Passwords, actor: str, name: str, body: PersonPatch) -> PersonItem:
    """Change a person; whoever comes in with the old word is out.

    Raises:
        Forbidden: an admin changes their own role or shuts themselves out; another admin does that.
    """
    person = await _find(session, name)
    if actor == name:
        raise Forbidden("another admin changes your role; your password is changed under your profile")
    changed: dict[str, object] = {}
    if body.role is not None:
        _only_ours(person, "role")
        person.role = changed["role"] = body.role
    if body.active is not None:
        person.active = changed["active"] = body.active
    if body.password is not None:
        _only_ours(person, "password")
        person.password = await _hashed(passwords, body.password, name)
        changed |= {"password": "set anew"}
    if not changed:
        raise Invalid("say what to change: role, active or password")
    await store.end_sessions(session, name)
    await audit.record(session, actor, "person.change", name, body.reason, **changed)
    return _item(person)


def _only_ours(person: Person, what: str) -> None:
    if person.subject is not None:
        raise Conflict(f"the provider gives {person.name} the {what}")


async def change_own_password(session: Session, passwords: Passwords, name: str, old: str, new: str) -> None:
    """Change one's own password, with the old one; every session ends, the present one too.

    Raises:
        WrongPassword: the old one is not that.
    """
    person = await _find(session, name)
    _only_ours(person, "password")
    if not await passwords.fits(person.password, old):
        raise WrongPassword("the present password is wrong")
    person.password = await _hashed(passwords, new, name)
    await store.end_sessions(session, name)
    await audit.record(session, name, "person.password", name, "changed by its owner")


async def sign_in(session: Session, passwords: Passwords, name: str, password: str) -> str | None:
    """Return the name of the person whose password this is, or None; nobody can tell why not, nor how near it was."""
    person = await store.find_person(session, name)
    known = person.password if person is not None and person.active else None
    if not await passwords.fits(known, password) or person is None:
        return None
    if known is not None and passwords.is_old(known):
        person.password = await passwords.hash(password)
    await _came_in(session, person, Way.PASSWORD)
    return person.name


async def vouched(session: Session, subject: str, name: str, role: Role) -> str:
    """Take a provider's word for somebody and return the name they have here; the role is what the claims give now.

    Raises:
        Forbidden: they are shut out here.
        Conflict: the name belongs to somebody else.
    """
    person = await store.find_subject(session, subject)
    if person is None:
        if re.fullmatch(NAME, name) is None:
            raise Forbidden("the provider's name for you is no name here")
        person = await _new(session, name, role, subject=subject)
        await audit.record(session, name, "person.create", name, "first sign-in with the provider", role=role)
    if not person.active:
        raise Forbidden(f"{person.name} is shut out here; ask an admin")
    if person.role != role:
        await store.end_sessions(session, person.name)
        await audit.record(session, person.name, "person.change", person.name, "the provider's claims", role=role)
        person.role = role
    await _came_in(session, person, Way.OIDC)
    return person.name


async def _came_in(session: Session, person: Person, way: Way) -> None:
    person.last_seen_at = clock.now()
    await audit.record(session, person.name, "person.sign_in", person.name, f"by {way}")


async def list_people(session: Session) -> list[PersonItem]:
    return [_item(person) for person in await store.list_people(session, MOST_PEOPLE)]


async def get_person(session: Session, name: str) -> PersonItem | None:
    """Return a person, or None where the name is that of a token."""
    found = await store.find_person(session, name)
    return _item(found) if found is not None else None


async def _find(session: Session, name: str) -> Person:
    person = await store.find_person(session, name, lock=True)
    if person is None:
        raise NotFound(f"there is no person called {name!r}")
    return person


def _item(person: Person) -> PersonItem:
    return PersonItem(
        name=person.name,
        role=Role(person.role),
        active=person.active,
        provider=person.subject is not None,
        created_at=person.created_at,
        last_seen_at=person.last_seen_at,
    )
