"""Sign in with a token or a password, sign out."""

import logging
import unicodedata
from datetime import timedelta

from fastapi.responses import HTMLResponse, RedirectResponse

from control_plane.access import service as access
from control_plane.access.domain import MAX_PASSWORD, Way
from control_plane.access.service import Provider, Refusal
from control_plane.kit import clock
from control_plane.kit.auth import principal_of
from control_plane.kit.errors import Conflict, Forbidden, NotFound, Unauthenticated
from control_plane.kit.http import Request, Response, context_of
from control_plane.web.edge import (
    SEE_OTHER,
    FormCall,
    admit,
    cookie_of,
    desk_of,
    drop_cookie,
    pages,
    put_cookie,
    read_form,
)
from control_plane.web.render import page
from control_plane.web.session import NOTE

MAX_TOKEN = 200
MAX_NAME = 100
MAX_NEXT = 500
MAX_SAID = 4000
SIGN_IN = timedelta(minutes=10)
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


def sign_in_form(request: Request, message: str, following: str, status: int = 200) -> Response:
    provider = desk_of(request).provider is not None
    view = {"call": None, "path": "/login", "message": message, "following": following, "provider": provider}
    return HTMLResponse(page("login.html", **view), status)


@doors.get("/login")
async def login_page(request: Request) -> Response:
    return sign_in_form(request, "", local(request.query_params.get("next", "/")))


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
    database, keys = context_of(request).database, (_address(request),)
    if not await access.may_try(database, keys):
        return sign_in_form(request, WAIT, following, 429)
    try:
        principal = await principal_of(request.state.session, token)
    except Unauthenticated:
        return sign_in_form(request, WRONG_TOKEN, following, 401)
    await access.succeeded(request.state.session, keys)
    return await admit(request, Way.TOKEN, principal.name, following)


async def _by_password(request: Request, name: str, password: str, following: str) -> Response:
    """Check a password; both the address and the name must wait after too many wrong ones."""
    desk, keys = desk_of(request), (_address(request), f"name {name.lower()}")
    database = context_of(request).database
    if desk.passwords.busy or not await access.may_try(database, keys):
        return sign_in_form(request, WAIT, following, 429)
    known = await access.sign_in(request.state.session, desk.passwords, name, password[:MAX_PASSWORD])
    if known is None:
        log.warning("wrong password for %r from %s", name, keys[0])
        return sign_in_form(request, WRONG_PASSWORD, following, 401)
    await access.succeeded(request.state.session, keys)
    return await admit(request, Way.PASSWORD, known, following)


def _provider(request: Request) -> Provider:
    found = desk_of(request).provider
    if found is None:
        raise NotFound("no provider is set up here")
    return found


@doors.get("/login/oidc")
async def to_provider(request: Request) -> Response:
    """Send the browser to the provider, with a sealed note of what it must bring back."""
    url, note = await _provider(request).begin()
    note |= {"next": local(request.query_params.get("next", "/"))}
    response = RedirectResponse(url, SEE_OTHER)
    put_cookie(request, response, desk_of(request).sealer.seal(note, clock.now()), int(SIGN_IN.total_seconds()), NOTE)
    return response


@doors.get("/login/oidc/back")
async def from_provider(request: Request) -> Response:
    """Take somebody in whom the provider vouches for; the note serves once."""
    provider, desk = _provider(request), desk_of(request)
    note = desk.sealer.open(request.cookies.get(cookie_of(request, NOTE)), clock.now(), SIGN_IN)
    if note is None:
        return sign_in_form(request, "This sign-in took too long, or was begun elsewhere. Try again.", "/", 403)
    try:
        said = {name: value[:MAX_SAID] for name, value in request.query_params.items()}
        who = await provider.finish(note, said)
        name = await access.vouched(request.state.session, who.subject, who.name, who.role)
        response = await admit(request, Way.OIDC, name, local(note["next"]))
    except (Refusal, Forbidden, Conflict) as error:
        log.warning("sign-in with the provider refused: %s", error.detail)
        response = sign_in_form(request, f"{error.detail[:1].upper()}{error.detail[1:]}.", "/", 403)
    drop_cookie(request, response, NOTE)
    return response


@doors.post("/logout")
async def logout(call: FormCall) -> Response:
    await access.end(call.session, call.request.cookies.get(cookie_of(call.request), ""))
    response = call.back("/login")
    drop_cookie(call.request, response)
    return response
