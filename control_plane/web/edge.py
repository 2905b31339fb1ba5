"""The pages' edge: one transaction per page, sessions, checked forms, and failures in the look of the pages."""

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute

from control_plane.kit import clock, errors
from control_plane.kit.auth import Principal, principal_of
from control_plane.kit.context import Context
from control_plane.kit.db import Session, is_outage
from control_plane.kit.http import STATUS, APIRouter, Request, Response, context_of
from control_plane.kit.roles import MAY, Role
from control_plane.kit.signing import load_secret
from control_plane.web.cached import Cache
from control_plane.web.render import page
from control_plane.web.session import COOKIE, Sealer, Throttle

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
}
log = logging.getLogger("fleetloop.web")


class LoginNeeded(Exception):  # noqa: N818 - not a failure: the way leads over the login page
    pass


@dataclass(slots=True)
class Desk:
    """What this process keeps for its pages: the sealer, failed logins, and figures that may be a few seconds old."""

    sealer: Sealer
    throttle: Throttle = field(default_factory=Throttle)
    cache: Cache = field(default_factory=Cache)


def desk_of(request: Request) -> Desk:
    desk: Desk | None = getattr(request.app.state, "web_desk", None)
    if desk is None:
        desk = Desk(Sealer(load_secret(context_of(request).settings.keys, "web.secret")))
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

    def back(self, to: str) -> Response:
        return RedirectResponse(to, SEE_OTHER)


class PageRoute(APIRoute):
    """Commits before the answer is sent; whatever goes wrong becomes a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                async with context_of(request).database.transaction() as session:
                    request.state.session = session
                    response = await inner(request)
            except Exception as error:  # noqa: BLE001 - the outermost edge: it answers, and logs what it does not know
                response = failure(request, error)
            response.headers.update(HEADERS | dict(response.headers))
            return response

        return handle


def pages() -> APIRouter:
    return APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)


async def _page_call(request: Request) -> PageCall:
    desk, cookie = desk_of(request), request.cookies.get(COOKIE)
    token = desk.sealer.open(cookie, clock.now())
    if token is None or cookie is None:
        raise LoginNeeded
    session: Session = request.state.session
    try:
        principal = await principal_of(session, token)
    except errors.Unauthenticated as error:
        raise LoginNeeded from error
    request.state.principal = principal
    call = PageCall(request, context_of(request), session, desk, principal, desk.sealer.form_token(cookie), {})
    request.state.call = call
    return call


async def read_form(request: Request) -> dict[str, str]:
    """Read a small url-encoded form, sent by a page of ours.

    Raises:
        Forbidden: it came from another site. TooLarge: it is no form of ours.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
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


async def _form_call(request: Request, call: Annotated[PageCall, Depends(_page_call)]) -> PageCall:
    form = await read_form(request)
    cookie = request.cookies.get(COOKIE, "")
    if not call.desk.sealer.is_form_token(cookie, form.get("form_token", "")):
        raise errors.Forbidden("this form is not from your session; open the page again", code="form_token")
    return PageCall(call.request, call.context, call.session, call.desk, call.principal, call.form_token, form)


SeeCall = Annotated[PageCall, Depends(_page_call)]
FormCall = Annotated[PageCall, Depends(_form_call)]

TITLES = {
    401: "Please log in",
    403: "Not allowed",
    404: "Not here",
    409: "Too late for that",
    413: "Too large",
    422: "Not understood",
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
    if is_outage(error) or isinstance(error, OSError):
        return failure_page(request, 503, "the database does not answer just now; try again")
    log.error("page %s failed", request.url.path, exc_info=error)
    return failure_page(request, 500, "something went wrong here; it has been logged")


def _next_of(request: Request) -> str:
    if request.method != "GET":
        return "/"
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path


def failure_page(request: Request, status: int, detail: str) -> Response:
    call = getattr(request.state, "call", None)
    title = TITLES.get(status, "Something went wrong")
    body = page("failure.html", call=call, path=request.url.path, status=status, title=title, detail=detail)
    return HTMLResponse(body, status, headers={"Retry-After": "2"} if status == 503 else None)
