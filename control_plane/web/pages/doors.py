"""Sign in with a token or a password, sign out."""

import logging
import unicodedata

from fastapi.responses import HTMLResponse

from control_plane.access import service as access
from control_plane.access.domain import MAX_PASSWORD, Way
from control_plane.kit import clock
from control_plane.kit.auth import principal_of
from control_plane.kit.errors import Unauthenticated
from control_plane.kit.http import Request, Response
from control_plane.web.edge import FormCall, admit, cookie_of, desk_of, drop_cookie, pages, read_form
from control_plane.web.render import page

MAX_TOKEN = 200
MAX_NAME = 100
MAX_NEXT = 500
WRONG_TOKEN = "This token is unknown or revoked. The folder tokens of the installation's home has one for each role."  # noqa: S105 - a sentence, no secret
WRONG_PASSWORD = "Name and password do not belong together."  # noqa: S105 - a sentence, no secret
WAIT = "Too many failed sign-ins. Wait a minute, then try again."
log = logging.getLogger("fleetloop.web")
doors = pages()


def local(path: str) -> str:
    r"""Return the path if it leads to a page of ours, else the overview.

    Browsers read `//x`, `/\x` and either with tabs, newlines or other signs of no width in them as another host.
    """
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and len(path) < MAX_NEXT
    odd = any(sign == "\\" or unicodedata.category(sign)[0] in "CZ" for sign in path)
    return path if plain and not odd else "/"


def sign_in_form(message: str, following: str, status: int = 200) -> Response:
    view = {"call": None, "path": "/login", "message": message, "following": following}
    return HTMLResponse(page("login.html", **view), status)


@doors.get("/login")
async def login_page(request: Request) -> Response:
    return sign_in_form("", local(request.query_params.get("next", "/")))


@doors.post("/login")
async def login(request: Request) -> Response:
    """Give a session to whoever has a token, or a name and its password."""
    form = await read_form(request)
    following = local(form.get("next", "/"))
    if form.get("name"):
        return await _by_password(request, form["name"].strip()[:MAX_NAME], form.get("password", ""), following)
    return await _by_token(request, form.get("token", "").strip()[:MAX_TOKEN], following)


def _address(request: Request) -> str:
    return request.client.host if request.client else "?"


async def _by_token(request: Request, token: str, following: str) -> Response:
    throttle, address = desk_of(request).throttle, _address(request)
    if not throttle.may_try(address, clock.now()):
        return sign_in_form(WAIT, following, 429)
    try:
        principal = await principal_of(request.state.session, token)
    except Unauthenticated:
        throttle.failed(address, clock.now())
        return sign_in_form(WRONG_TOKEN, following, 401)
    return await admit(request, Way.TOKEN, principal.name, following)


async def _by_password(request: Request, name: str, password: str, following: str) -> Response:
    """Check a password; both the address and the name must wait after too many wrong ones."""
    desk, keys = desk_of(request), (_address(request), f"name {name.lower()}")
    if desk.passwords.busy or not all(desk.throttle.may_try(key, clock.now()) for key in keys):
        return sign_in_form(WAIT, following, 429)
    known = await access.sign_in(request.state.session, desk.passwords, name, password[:MAX_PASSWORD])
    if known is None:
        log.warning("wrong password for %r from %s", name, keys[0])
        for key in keys:
            desk.throttle.failed(key, clock.now())
        return sign_in_form(WRONG_PASSWORD, following, 401)
    return await admit(request, Way.PASSWORD, known, following)


@doors.post("/logout")
async def logout(call: FormCall) -> Response:
    await access.end(call.session, call.request.cookies.get(cookie_of(call.request), ""))
    response = call.back("/login")
    drop_cookie(call.request, response)
    return response
