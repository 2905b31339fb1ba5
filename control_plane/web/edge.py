"""The pages' edge: one transaction per page, sessions, checked forms, and failures in the look of the pages."""

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from control_plane.access import service as access
from control_plane.access.domain import LONGEST, Entered, Way
from control_plane.access.service import Passwords, Provider, ProviderSettings
from control_plane.kit import clock, errors
from control_plane.kit.auth import Principal
from control_plane.kit.context import Context
from control_plane.kit.db import Session, is_bad_value, is_outage
from control_plane.kit.http import STATUS, APIRouter, Request, Response, context_of, reading, sessions
from control_plane.kit.observability import REQUEST_ID
from control_plane.kit.roles import MAY, Role
from control_plane.kit.signing import load_secret
from control_plane.web.cached import Cache
from control_plane.web.render import page
from control_plane.web.session import COOKIE, Sealer, cookie_name, is_ours, is_secure

MAX_FORM_BYTES = 16 << 10
MAX_FORM_FIELDS = 20
MAX_REASON = 500
SEE_OTHER = 303
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
Body = TypeVar("Body", bound=BaseModel)
log = logging.getLogger("fleetloop.web")


class LoginNeeded(Exception):  # noqa: N818 - not a failure: the way leads over the login page
    pass


@dataclass(slots=True)
class Desk:
    """What this process keeps for its pages: the sealer, and figures that may be a few seconds old."""

    sealer: Sealer
    passwords: Passwords
    provider: Provider | None = None
    cache: Cache = field(default_factory=Cache)


def desk_of(request: Request) -> Desk:
    desk: Desk | None = getattr(request.app.state, "web_desk", None)
    if desk is None:
        sealer = Sealer(load_secret(context_of(request).settings.keys, "web.secret"))
        said = ProviderSettings.read(context_of(request).settings)
        desk = Desk(sealer, request.app.state.passwords, Provider(said) if said else None)
        request.app.state.web_desk = desk
    return desk


@dataclass(frozen=True, slots=True)
class PageCall:
    """Somebody looks at a page, or sends one of its forms (`form`)."""

    request: Request
    context: Context
    session: Session
    desk: Desk
    principal: Principal
    entered: Entered
    form_token: str
    form: dict[str, str]

    def may(self, role: Role) -> bool:
        return role in MAY[self.principal.role]

    def show(self, template: str, **view: Any) -> Response:
        return HTMLResponse(page(template, call=self, path=self.request.url.path, **view))

    def reason(self) -> str:
        """Return the form's reason.

        Raises:
            Invalid: nobody gave one; it goes to the audit trail and must say something.
        """
        reason = self.form.get("reason", "").strip()
        if not reason:
            raise errors.Invalid("say why: the reason is kept in the audit trail", code="reason_missing")
        if len(reason) > MAX_REASON:
            raise errors.Invalid(f"a reason has at most {MAX_REASON} characters", code="reason_too_long")
        return reason

    def read(self, kind: type[Body], **values: Any) -> Body:
        """Read what a form says as what a service takes.

        Raises:
            Invalid: it does not fit; the sentence names the field.
        """
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise errors.Invalid(f"{place}: {first['msg']}", code="form_refused") from error

    def back(self, to: str) -> Response:
        return RedirectResponse(to, SEE_OTHER)


class PageRoute(APIRoute):
    """Commits before the answer is sent; whatever goes wrong becomes a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                async with sessions(request):
                    response = await inner(request)
            except Exception as error:  # noqa: BLE001 - the outermost edge: it answers, and logs what it does not know
                response = failure(request, error)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return handle


def pages() -> APIRouter:
    return APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)


def cookie_of(request: Request, name: str = COOKIE) -> str:
    """Return the name a cookie of ours has on this connection."""
    public = context_of(request).settings.public_url
    return cookie_name(name, secure=is_secure(request.url.scheme, request.headers.get("host", ""), public))


def put_cookie(request: Request, response: Response, value: str, max_age_s: int, name: str = COOKIE) -> None:
    full = cookie_of(request, name)
    response.set_cookie(
        full, value, max_age=max_age_s, httponly=True, samesite="lax", secure=full.startswith("__Host-")
    )


def drop_cookie(request: Request, response: Response, name: str = COOKIE) -> None:
    full = cookie_of(request, name)
    response.delete_cookie(full, httponly=True, samesite="lax", secure=full.startswith("__Host-"))


async def admit(request: Request, way: Way, name: str, to: str) -> Response:
    """Begin a new session, whatever the browser had before, and lead on."""
    session: Session = request.state.session
    before = request.cookies.get(cookie_of(request))
    if before is not None:
        await access.end(session, before)
    secret = await access.begin(session, way, name, clock.now())
    response = RedirectResponse(to, SEE_OTHER)
    put_cookie(request, response, secret, int(LONGEST.total_seconds()))
    return response


async def page_call(request: Request) -> PageCall:
    desk, cookie = desk_of(request), request.cookies.get(cookie_of(request))
    session: Session = request.state.session
    entered = await access.entered(session, cookie, clock.now())
    if entered is None or cookie is None:
        raise LoginNeeded
    principal = Principal(entered.name, entered.role)
    request.state.principal = principal
    token = desk.sealer.form_token(cookie)
    call = PageCall(request, context_of(request), session, desk, principal, entered, token, {})
    request.state.call = call
    return call


async def read_form(request: Request) -> dict[str, str]:
    """Read a small url-encoded form, sent by a page of ours.

    Raises:
        Forbidden: it came from another site. TooLarge: it is no form of ours.
    """
    said, public = request.headers, context_of(request).settings.public_url
    if not is_ours(said.get("origin"), said.get("sec-fetch-site"), said.get("host", ""), public):
        raise errors.Forbidden("this form was sent from another site", code="cross_site")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise errors.TooLarge(f"a form here has at most {MAX_FORM_BYTES} bytes")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
    except ValueError as error:
        raise errors.Invalid("this form cannot be read") from error
    return {name: values[0] for name, values in fields.items()}


async def _form_call(request: Request, call: Annotated[PageCall, Depends(page_call)]) -> PageCall:
    form = await read_form(request)
    cookie = request.cookies.get(cookie_of(request), "")
    if not call.desk.sealer.is_form_token(cookie, form.get("form_token", "")):
        raise errors.Forbidden("this form is not from your session; open the page again", code="form_token")
    return replace(call, form=form)


async def _see_call(request: Request, call: Annotated[PageCall, Depends(page_call)]) -> PageCall:
    return replace(call, session=await reading(request))


SeeCall = Annotated[PageCall, Depends(_see_call)]
"""Who looks; nothing can be written, and what is read may come from a replica."""
FormCall = Annotated[PageCall, Depends(_form_call)]

TITLES = {
    401: "Please log in",
    403: "Not allowed",
    404: "Not here",
    409: "Too late for that",
    413: "Too large",
    422: "Not understood",
    429: "Too often",
    503: "Not just now",
}


def failure(request: Request, error: Exception) -> Response:
    if isinstance(error, LoginNeeded):
        return RedirectResponse(f"/login?next={quote(_next_of(request))}", SEE_OTHER)
    if isinstance(error, errors.Problem):
        status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
        return failure_page(request, status, error.detail)
    if isinstance(error, RequestValidationError):
        return failure_page(request, 422, "this address has a part that is not understood")
    if is_bad_value(error):
        return failure_page(request, 422, "a value here cannot be stored or looked for: it is out of range, or no text")
    if is_outage(error) or isinstance(error, OSError):
        return failure_page(request, 503, "the database does not answer just now; try again")
    log.error("page %s failed", request.url.path, exc_info=error)
    return failure_page(request, 500, "something went wrong here; it has been logged")


def _next_of(request: Request) -> str:
    if request.method != "GET":
        return "/"
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


def _came_from(request: Request) -> str:
    """Return the page of ours that led here, if the browser says so; the page itself leads nowhere."""
    said = urlsplit(request.headers.get("referer", ""))
    own = said.scheme in ("http", "https") and said.netloc == request.headers.get("host", "")
    there = f"{said.path}?{said.query}" if said.query else said.path
    return there if own and there.startswith("/") and not there.startswith("//") and there != _next_of(request) else ""


def failure_page(request: Request, status: int, detail: str) -> Response:
    call = getattr(request.state, "call", None)
    title = TITLES.get(status, "Something went wrong")
    body = page(
        "failure.html",
        back=_came_from(request),
        call=call,
        path=request.url.path,
        status=status,
        title=title,
        detail=detail,
        request_id=REQUEST_ID.get(),
    )
    return HTMLResponse(body, status, headers={"Retry-After": "2"} if status == 503 else None)
