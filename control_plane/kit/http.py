"""The edge: problems as RFC 9457, one transaction per request, callers and their roles, idempotency keys."""

import hashlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from control_plane.kit import errors
from control_plane.kit.auth import Principal, authenticate
from control_plane.kit.context import Context
from control_plane.kit.db import DATABASE_ERRORS, Row, Session, execute, is_bad_value, is_outage, row
from control_plane.kit.roles import Role

__all__ = [
    "APIRouter",
    "AdminCall",
    "ApproverCall",
    "Call",
    "Cursor",
    "Depth",
    "Limit",
    "OperatorCall",
    "PipelineCall",
    "Request",
    "Response",
    "TransactionRoute",
    "ViewerCall",
    "WideCall",
    "WorkerCall",
    "context_of",
    "install_problems",
    "problem",
    "reading",
    "router",
    "sessions",
]

STATUS: dict[type[errors.Problem], int] = {
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Invalid: 422,
    errors.Refused: 403,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.TooLarge: 413,
    errors.TooMany: 429,
    errors.Unavailable: 503,
}
Made = TypeVar("Made", bound=BaseModel)
Limit = Annotated[int, Query(ge=1, le=500, description="how many items at most")]
Depth = Query(ge=1, le=50, description="how many edges deep")
Cursor = Annotated[str | None, Query(max_length=500, description="`next` of the page before")]

_PROBLEM: dict[str, Any] = {
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "code", "detail"],
                "properties": {
                    "type": {"type": "string", "format": "uri"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "code": {"type": "string", "description": "stable, for programs"},
                    "detail": {"type": "string", "description": "a sentence for people"},
                },
            }
        }
    }
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    422: {"description": "What was sent does not make sense (RFC 9457)"} | _PROBLEM,
    "default": {"description": "A problem (RFC 9457)"} | _PROBLEM,
}


def context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


@asynccontextmanager
async def sessions(request: Request) -> AsyncIterator[None]:
    """Open the request's transaction, and what `reading` gives; committed and closed before the answer is sent."""
    async with context_of(request).database.transaction() as session, AsyncExitStack() as wide:
        request.state.session, request.state.wide = session, wide
        yield


async def reading(request: Request) -> Session:
    """Return a session for wide reads: of a replica if there is a fresh one, else the request's own."""
    session: Session = await request.state.wide.enter_async_context(
        context_of(request).reader.session(request.state.session)
    )
    return session


class TransactionRoute(APIRoute):
    """Opens the request's transaction and commits it before the answer is sent."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            async with sessions(request):
                return await inner(request)

        return handle


def router(tag: str, prefix: str = "") -> APIRouter:
    return APIRouter(prefix=f"/api/v1{prefix}", tags=[tag], route_class=TransactionRoute, responses=PROBLEMS)


@dataclass(frozen=True, slots=True)
class Call:
    """One request by somebody."""

    context: Context
    session: Session
    principal: Principal
    key: str | None
    route: str

    async def once(self, body: BaseModel, make: Callable[[], Awaitable[Made]]) -> Made:
        """Create at most once per idempotency key: a repeat gets the first answer, a changed body a conflict.

        Answers are kept for a week (`kit.repeats`).
        """
        if self.key is None:
            return await make()
        digest = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
        name = f"{self.principal.name}:{self.route}:{self.key}"
        await execute(self.session, "select pg_advisory_xact_lock(hashtextextended(:name, 0))", name=name)
        seen = await row(self.session, "select body, answer from kit_idempotency where name = :name", name=name)
        if seen is not None:
            raise _again(seen, digest)
        made = await make()
        await execute(
            self.session,
            "insert into kit_idempotency (name, body, answer) values (:name, :body, cast(:answer as jsonb))",
            name=name,
            body=digest,
            answer=made.model_dump_json(),
        )
        return made


class _Replay(Exception):  # noqa: N818 - not a failure: the first answer is sent again
    def __init__(self, answer: Any) -> None:
        self.answer = json.dumps(answer)


def _again(seen: Row, digest: str) -> Exception:
    if seen["body"] != digest:
        return errors.Conflict("this Idempotency-Key was used with another body", code="idempotency_key_reused")
    return _Replay(seen["answer"])


def call_as(*roles: Role) -> Callable[..., Awaitable[Call]]:
    async def call(
        request: Request,
        authorization: Annotated[str | None, Header(max_length=500)] = None,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Call:
        session: Session = request.state.session
        principal = await authenticate(session, authorization)
        principal.must_be_one_of(roles)
        return Call(context_of(request), session, principal, idempotency_key, f"{request.method} {request.url.path}")

    return call


ViewerCall = Annotated[Call, Depends(call_as(Role.VIEWER))]


async def _wide_call(request: Request, call: ViewerCall) -> Call:
    return replace(call, session=await reading(request))


WideCall = Annotated[Call, Depends(_wide_call)]
"""A viewer's who reads much, or what much is read for; nothing can be written."""
OperatorCall = Annotated[Call, Depends(call_as(Role.OPERATOR))]
ApproverCall = Annotated[Call, Depends(call_as(Role.APPROVER))]
PipelineCall = Annotated[Call, Depends(call_as(Role.PIPELINE))]
WorkerCall = Annotated[Call, Depends(call_as(Role.PIPELINE, Role.OPERATOR))]
SigningCall = Annotated[Call, Depends(call_as(Role.PIPELINE, Role.OPERATOR, Role.APPROVER))]
AdminCall = Annotated[Call, Depends(call_as(Role.ADMIN))]


def problem(status: int, code: str, detail: str, **extra: object) -> Response:
    body = {
        "type": f"https://fleetloop.dev/problems/{code}",
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": detail,
        **extra,
    }
    wait_s = extra.get("retry_after_s", 2 if status == 503 else None)
    headers = {"Retry-After": str(math.ceil(wait_s))} if isinstance(wait_s, (int, float)) else None
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


def install_problems(app: FastAPI) -> None:
    """Answer every failure as a problem; an unknown one says nothing of the inside."""
    app.add_exception_handler(errors.Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(_Replay, _on_replay)
    for kind in DATABASE_ERRORS:
        app.add_exception_handler(kind, _on_database)
    app.add_exception_handler(OSError, _on_outage)
    app.add_exception_handler(TimeoutError, _on_outage)
    app.add_exception_handler(Exception, _on_unknown)


async def _on_problem(_: Request, error: Exception) -> Response:
    if not isinstance(error, errors.Problem):
        raise error
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    return problem(status, error.code, error.detail, **error.extra)


async def _on_validation(_: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    places = [{"at": ".".join(str(part) for part in item["loc"]), "why": item["msg"]} for item in found[:20]]
    first = f"{places[0]['at']}: {places[0]['why']}" if places else str(error)
    return problem(422, "invalid", first, errors=places)


async def _on_http(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else "internal error"
    return problem(status, {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error"), detail)


async def _on_replay(_: Request, error: Exception) -> Response:
    answer = error.answer if isinstance(error, _Replay) else "{}"
    return Response(answer, 201, media_type="application/json", headers={"Idempotency-Replayed": "true"})


async def _on_outage(_: Request, __: Exception) -> Response:
    return problem(503, "unavailable", "the database does not answer just now; try again")


async def _on_database(request: Request, error: Exception) -> Response:
    if is_bad_value(error):
        return problem(422, "invalid", "a value here cannot be stored: out of range, or text that is not Unicode text")
    if is_outage(error):
        return await _on_outage(request, error)
    raise error


async def _on_unknown(request: Request, error: Exception) -> Response:
    if is_outage(error):
        return await _on_outage(request, error)
    return problem(500, "internal", "something went wrong here; it has been logged")
