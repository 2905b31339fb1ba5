"""Log in with a token, log out."""

from fastapi.responses import HTMLResponse, RedirectResponse

from control_plane.kit import clock
from control_plane.kit.auth import principal_of
from control_plane.kit.errors import Unauthenticated
from control_plane.kit.http import Request, Response
from control_plane.web.edge import SEE_OTHER, FormCall, desk_of, pages, read_form
from control_plane.web.render import page
from control_plane.web.session import COOKIE, MAX_AGE_S

MAX_TOKEN = 200
UNKNOWN = "This token is unknown or revoked. The folder “tokens” of the installation's home has one for each role."
doors = pages()


def local(path: str) -> str:
    """Return the path if it leads to a page of ours, else the overview."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and len(path) < 500
    return path if plain else "/"


def _form(message: str, following: str, status: int = 200) -> Response:
    return HTMLResponse(page("login.html", call=None, path="/login", message=message, following=following), status)


@doors.get("/login")
async def login_page(request: Request) -> Response:
    return _form("", local(request.query_params.get("next", "/")))


@doors.post("/login")
async def login(request: Request) -> Response:
    """Give a session to whoever has a token."""
    form, desk = await read_form(request), desk_of(request)
    token, following = form.get("token", "").strip(), local(form.get("next", "/"))
    address = request.client.host if request.client else "?"
    if not desk.throttle.may_try(address, clock.now()):
        return _form("Too many wrong tokens from this address. Wait a minute, then try again.", following, 429)
    try:
        await principal_of(request.state.session, token[:MAX_TOKEN])
    except Unauthenticated:
        desk.throttle.failed(address, clock.now())
        return _form(
            "This token is unknown or revoked. The folder tokens of the installation's home has one for each role.",
            following,
            401,
        )
    response = RedirectResponse(following, SEE_OTHER)
    response.set_cookie(
        COOKIE,
        desk.sealer.seal(token, clock.now()),
        max_age=MAX_AGE_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@doors.post("/logout")
async def logout(call: FormCall) -> Response:
    response = call.back("/login")
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response
