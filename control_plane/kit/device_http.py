"""The device edge: raw routes with strict JSON and few moving parts, because every device calls them all the time."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from agents.protocol.v1 import LIMITS, strict_json
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, TooLarge
from control_plane.kit.http import Request, Response, context_of

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


class _Route:
    """An ASGI app, which Starlette calls as it is; around a function it would build a second net for exceptions."""

    def __init__(self, handler: Callable[[Request], Awaitable[Response]]) -> None:
        self._handler = handler

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        response = await self._handler(Request(scope, receive))
        await response(scope, receive, send)


def plain_route(handler: Callable[[Request], Awaitable[Response]]) -> Any:
    return _Route(handler)


def device_route(handler: Handler) -> Any:
    """Give a handler its body and a transaction that commits before the answer leaves."""

    async def route(request: Request) -> Response:
        body = await request.body()
        async with context_of(request).database.transaction() as session:
            return await handler(request, session, body)

    return _Route(route)
