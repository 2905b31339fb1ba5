"""One's own profile, for everybody; people and their roles, for admins."""

from control_plane.access import service as access
from control_plane.access.domain import IDLE, LONGEST, MIN_PASSWORD, Way
from control_plane.access.schemas import PersonCreate, PersonPatch
from control_plane.kit.errors import Invalid, TooMany
from control_plane.kit.http import Response
from control_plane.kit.roles import Role
from control_plane.web.edge import FormCall, SeeCall, admit, pages

PEOPLE_ROLES = (Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.ADMIN)
people = pages()


@people.get("/settings")
async def show_profile(call: SeeCall) -> Response:
    person = await access.get_person(call.session, call.principal.name)
    hours = (IDLE.total_seconds() / 3600, LONGEST.total_seconds() / 3600)
    return call.show("profile.html", person=person, hours=hours, least=MIN_PASSWORD, still=True)


@people.post("/settings/password")
async def change_password(call: FormCall) -> Response:
    """Change one's own password; a new session begins, and every other is over."""
    new, name, desk = call.form.get("new", ""), call.principal.name, call.desk
    if new != call.form.get("again", ""):
        raise Invalid("the new password was not written twice the same way")
    database, keys = call.context.database, (f"name {name.lower()}",)
    if not await access.may_try(database, keys):
        raise TooMany("too many wrong passwords; wait a minute", 60)
    await access.change_own_password(call.session, desk.passwords, name, call.form.get("old", ""), new)
    await access.succeeded(call.session, keys)
    return await admit(call.request, Way.PASSWORD, name, "/settings")


@people.get("/settings/people")
async def show_people(call: SeeCall) -> Response:
    call.principal.must_be(Role.ADMIN)
    found = await access.list_people(call.session)
    return call.show("people.html", found=found, roles=PEOPLE_ROLES, least=MIN_PASSWORD, still=True)


@people.post("/settings/people")
async def add_person(call: FormCall) -> Response:
    call.principal.must_be(Role.ADMIN)
    form = call.form
    body = call.read(
        PersonCreate,
        name=form.get("name", "").strip(),
        role=form.get("role"),
        password=form.get("password", ""),
        reason=call.reason(),
    )
    await access.create_person(call.session, call.desk.passwords, call.principal.name, body)
    return call.back("/settings/people")


@people.post("/settings/people/{name}")
async def change_person(name: str, call: FormCall) -> Response:
    """Change what the form names; what it leaves empty stays."""
    call.principal.must_be(Role.ADMIN)
    form = call.form
    active = {"yes": True, "no": False, "": None}.get(form.get("active", ""))
    body = call.read(
        PersonPatch,
        role=form.get("role") or None,
        active=active,
        password=form.get("password") or None,
        reason=call.reason(),
    )
    await access.patch_person(call.session, call.desk.passwords, call.principal.name, name, body)
    return call.back("/settings/people")
