"""Calls as values, defined once and made by both clients.

A method marked `@Call` or `@Walk` returns what to ask, not the answer. On a `Client` it then gives the answer, on an
`AsyncClient` something to await; its arguments and types are those of the definition.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel, TypeAdapter

from control_plane.client.errors import ClientError, Invalid, TooMany, Unavailable
from control_plane.kit import tracing
from control_plane.kit.pages import Page

P = ParamSpec("P")
T = TypeVar("T")
PAGE = 200
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """One request to `/api/v1PATH` and the kind of its answer; `bytes` are handed on as they are."""

    kind: type[T]
    method: str
    path: str
    body: BaseModel | None = None
    query: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    timeout_s: float | None = None

    def headers(self) -> dict[str, str]:
        key = {"Idempotency-Key": self.key} if self.key else {}
        return (JSON if self.body is not None else {}) | key | tracing.headers()

    def content(self) -> str | None:
        """Return what is sent: only what was said, for an earlier release would refuse fields that it does not know."""
        return self.body.model_dump_json(exclude_unset=True) if self.body is not None else None

    def params(self) -> dict[str, Any]:
        return {name: value for name, value in self.query.items() if value is not None}

    def read(self, content: bytes) -> T:
        """Return the answer; what a control plane of a later release says beside what is known here is left out."""
        given: Any = content
        return given if self.kind is bytes else TypeAdapter(self.kind).validate_json(content or b"null", extra="ignore")


@dataclass(frozen=True, slots=True)
class Pages(Generic[T]):
    """A list that comes in pages. `last` gives the cursor of lists that are no `Page`s: it is in their last item."""

    kind: type[T]
    path: str
    query: dict[str, Any] = field(default_factory=dict)
    last: Callable[[T], str] | None = None

    def ask(self, after: str | None) -> Ask[Any]:
        item: Any = self.kind
        kind: Any = Page[item] if self.last is None else list[item]
        return Ask(kind, "GET", self.path, query=self.query | {"after": after, "limit": PAGE})

    def read(self, page: Any) -> tuple[list[T], str | None]:
        """Return a page's items and where the next one begins."""
        if self.last is None:
            return page.items, page.next
        return page, self.last(page[-1]) if len(page) == PAGE else None


class Blocking:
    """What makes calls and waits for them."""

    def make(self, ask: Ask[T]) -> T:
        raise NotImplementedError

    def walk(self, pages: Pages[T]) -> Iterator[T]:
        raise NotImplementedError


class Awaiting:
    """What makes calls that are awaited."""

    async def make(self, ask: Ask[T]) -> T:
        raise NotImplementedError

    def walk(self, pages: Pages[T]) -> AsyncIterator[T]:
        raise NotImplementedError


class Call(Generic[P, T]):
    """One call of the API, for both clients."""

    def __init__(self, define: Callable[Concatenate[Any, P], Ask[T]]) -> None:
        self.define = define
        self.__doc__, self.__name__ = define.__doc__, define.__name__

    def ask(self, *args: P.args, **values: P.kwargs) -> Ask[T]:
        """Return what would be asked; nothing is sent."""
        return self.define(None, *args, **values)

    @overload
    def __get__(self, client: Blocking, owner: type | None = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type | None = None) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, client: None, owner: type | None = None) -> Self: ...
    def __get__(self, client: Any, owner: type | None = None) -> Any:
        if client is None:
            return self

        def call(*args: P.args, **values: P.kwargs) -> Any:
            return client.make(self.define(client, *args, **values))

        return update_wrapper(call, self.define)


class Walk(Generic[P, T]):
    """One list of the API, walked page by page by both clients."""

    def __init__(self, define: Callable[Concatenate[Any, P], Pages[T]]) -> None:
        self.define = define
        self.__doc__, self.__name__ = define.__doc__, define.__name__

    def ask(self, *args: P.args, **values: P.kwargs) -> Pages[T]:
        """Return what would be asked; nothing is sent."""
        return self.define(None, *args, **values)

    @overload
    def __get__(self, client: Blocking, owner: type | None = None) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type | None = None) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, client: None, owner: type | None = None) -> Self: ...
    def __get__(self, client: Any, owner: type | None = None) -> Any:
        if client is None:
            return self

        def call(*args: P.args, **values: P.kwargs) -> Any:
            return client.walk(self.define(client, *args, **values))

        return update_wrapper(call, self.define)


def segment(name: str) -> str:
    """Return an id or a name as one part of a path.

    Raises:
        Invalid: it cannot be one, and would lead to another route.
    """
    if name in {"", ".", ".."}:
        raise Invalid(422, "invalid", f"{name!r} is no id or name")
    return quote(name, safe="")


def get(kind: type[T], path: str, **query: Any) -> Ask[T]:
    return Ask(kind, "GET", path, query=query)


def put(kind: type[T], path: str, body: BaseModel) -> Ask[T]:
    return Ask(kind, "PUT", path, body)


def post(kind: type[T], path: str, body: BaseModel | None = None) -> Ask[T]:
    return Ask(kind, "POST", path, body)


def create(kind: type[T], path: str, body: BaseModel, key: str | None = None) -> Ask[T]:
    """Ask for something new, at most once however often it is sent: without a key of yours, with a random one."""
    return Ask(kind, "POST", path, body, key=key or uuid4().hex)


class Patience:
    """How long one call is tried again: with back-off until `patience_s` is over."""

    def __init__(self, patience_s: float) -> None:
        self._give_up = time.monotonic() + patience_s
        self._attempt = 0

    def pause_after(self, failure: ClientError) -> float:
        """Return seconds to wait before the next try.

        Raises:
            ClientError: this failure, if trying again cannot help or patience is over.
        """
        if not isinstance(failure, Unavailable | TooMany):
            raise failure
        pause_s: float = 0.1 * 2 ** min(self._attempt, 4)
        if isinstance(failure, TooMany):
            pause_s = max(pause_s, failure.retry_after_s or 1.0)
        if time.monotonic() + pause_s > self._give_up:
            raise failure
        self._attempt += 1
        return pause_s
