"""The device edge: raw routes with strict JSON and few moving parts, because every device calls them all the time."""

import base64
import binascii
import contextlib
import hmac
import json
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from agents.protocol.v1 import LIMITS, strict_json
from control_plane.kit.certificates import MAX_CERTIFICATE_BYTES
from control_plane.kit.db import Session
from control_plane.kit.errors import Forbidden, Invalid, Problem, TooLarge, Unauthenticated
from control_plane.kit.http import Request, Response, context_of
from control_plane.kit.tls import PEER, PROXIED

Message = TypeVar("Message", bound=BaseModel)
Handler = Callable[[Request, Session, bytes], Awaitable[Response]]


def parse(kind: type[Message], body: bytes, max_bytes: int = LIMITS["body_bytes"]) -> Message:
    """Read a message strictly; say what was wrong with it."""
    if len(body) > max_bytes:
        raise TooLarge(f"this message has {len(body)} bytes, at most {max_bytes} are read")
    try:
        plain = strict_json(body, max_bytes)
        if b"\\u" in body:  # only an escape can smuggle in what is not text
            _refuse_non_text(plain)
        return kind.model_validate(plain)
    except ValidationError as error:
        places = [{"at": ".".join(map(str, e["loc"])), "why": e["msg"]} for e in error.errors(include_url=False)[:20]]
        raise Invalid(f"{places[0]['at']}: {places[0]['why']}", code="malformed", errors=places) from error
    except (ValueError, UnicodeDecodeError) as error:
        raise Invalid(str(error), code="malformed") from error


def _refuse_non_text(value: Any) -> None:
    """Refuse NUL and half surrogate pairs, which neither UTF-8 nor PostgreSQL can hold."""
    text = json.dumps(value, ensure_ascii=False)
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("a text holds a NUL character")
    text.encode()


def answer(message: BaseModel, status: int = 200) -> Response:
    return Response(message.model_dump_json(by_alias=True), status, media_type="application/json")


def target_of(request: Request) -> str:
    """Return path and query as the device signed them."""
    path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


CERTIFICATE_HEADER = b"fleetloop-client-cert"
SECRET_HEADER = b"fleetloop-proxy-secret"
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Proof:
    """What a request brings to prove whose it is: a client certificate (DER), a signature, or both."""

    method: str
    target: str
    body: bytes
    certificate: bytes
    device_id: str | None
    signature: str | None
    address: str


def proof_of(request: Request, body: bytes) -> Proof:
    """Gather a request's credentials; nothing of it is believed yet.

    Raises:
        Forbidden: somebody who is not our proxy speaks as if he were. Unauthenticated: the certificate is unreadable.
    """
    headers = request.headers
    return Proof(
        method=request.method,
        target=target_of(request),
        body=body,
        certificate=_certificate(request),
        device_id=headers.get("fleetloop-device"),
        signature=headers.get("fleetloop-signature"),
        address=address_of(request),
    )


def address_of(request: Request) -> str:
    """Return where a request comes from; behind our proxy that is what the proxy says."""
    told = request.headers.get("x-real-ip") if PROXIED in request.scope else None
    return told or (request.client.host if request.client else "")


def _certificate(request: Request) -> bytes:
    scope = request.scope
    # Some proxies and servers treat _ and - in names alike, so whoever checks only one of them can be fooled.
    said = [value for name, value in scope["headers"] if name.replace(b"_", b"-") == CERTIFICATE_HEADER]
    if PROXIED not in scope:
        if said:
            raise Forbidden("this listener takes no certificate in a header", code="identity_header")
        peer: bytes = scope.get(PEER, b"")
        return peer
    _check_proxy(request)
    if len(said) != sum(name == CERTIFICATE_HEADER for name, _ in scope["headers"]) or len(said) > 1:
        raise Forbidden("more than one client certificate in the headers", code="identity_header")
    return unescaped(said[0]) if said and said[0] else b""


def _check_proxy(request: Request) -> None:
    """A unix socket is the proxy's by its permissions; on a port it must know the secret."""
    secret = context_of(request).settings.proxy_secret
    if request.client is None and secret is None:
        return
    given = [value for name, value in request.scope["headers"] if name == SECRET_HEADER]
    wanted = secret.get_secret_value().encode() if secret else b""
    if not wanted or len(given) != 1 or not hmac.compare_digest(given[0], wanted):
        raise Forbidden("this listener is for our proxy", code="not_the_proxy")


def unescaped(value: bytes) -> bytes:
    """Return the DER of a percent-encoded PEM certificate."""
    if len(value) > 3 * MAX_CERTIFICATE_BYTES:
        raise Unauthenticated("the client certificate is too large", code="bad_certificate")
    text = urllib.parse.unquote(value.decode("latin-1")).strip()
    if not (text.startswith(_BEGIN) and text.endswith(_END) and text.count(_BEGIN) == 1):
        raise Unauthenticated("the client certificate is not one PEM block", code="bad_certificate")
    try:
        return base64.b64decode("".join(text[len(_BEGIN) : -len(_END)].split()), validate=True)
    except binascii.Error as error:
        raise Unauthenticated("the client certificate is not base64", code="bad_certificate") from error


class _Route:
    """An ASGI app, which Starlette calls as it is; around a function it would build a second net for exceptions."""

    def __init__(self, handler: Callable[[Request], Awaitable[Response]]) -> None:
        self._handler = handler

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        response = await self._handler(Request(scope, receive))
        await response(scope, receive, send)


@contextlib.asynccontextmanager
async def remembering(request: Request) -> AsyncIterator[None]:
    """Around a transaction: write what a refusal wants remembered after the transaction is undone."""
    try:
        yield
    except Problem as problem:
        if problem.afterwards is not None:
            async with context_of(request).database.transaction() as session:
                await problem.afterwards(session)
        raise


def plain_route(handler: Callable[[Request], Awaitable[Response]]) -> Any:
    return _Route(handler)


def device_route(handler: Handler) -> Any:
    """Give a handler its body and a transaction that commits before the answer leaves."""

    async def route(request: Request) -> Response:
        body = await request.body()
        async with remembering(request), context_of(request).database.transaction() as session:
            return await handler(request, session, body)

    return _Route(route)
