"""Bounds on what a stranger can make the server read: bytes of a body, and seconds to send it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Message = dict[str, Any]
App = Callable[
    [Mapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class BodyTooLarge(Exception):  # noqa: N818 - becomes a 413
    pass


class BodyTooSlow(Exception):  # noqa: N818 - becomes a 408
    pass


class BodyLimit:
    """ASGI middleware: refuses bodies over `max_bytes` or slower than `max_seconds`, before anything reads them."""

    def __init__(self, app: App, *, max_bytes: int, max_seconds: float, free: tuple[str, ...] = ()) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_seconds = max_seconds
        self.free = free

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self.free):
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.max_bytes:
            await _refuse(send, 413, "too_large", f"a body here has at most {self.max_bytes} bytes")
            return
        answer = _Answer(send)
        try:
            await self.app(scope, self._bounded(receive, answer), answer.send)
        except (BodyTooLarge, BodyTooSlow):
            if answer.started:
                raise
        if answer.failure is not None and not answer.started:
            slow = isinstance(answer.failure, BodyTooSlow)
            await _refuse(send, 408 if slow else 413, "too_slow" if slow else "too_large", str(answer.failure))

    def _bounded(
        self, receive: Callable[[], Awaitable[Message]], answer: "_Answer"
    ) -> Callable[[], Awaitable[Message]]:
        deadline = asyncio.get_running_loop().time() + self.max_seconds
        total = 0
        finished = False

        async def bounded() -> Message:
            nonlocal total, finished
            if finished:
                return await receive()  # only a disconnect can follow; that may take as long as it likes
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                answer.failure = BodyTooSlow(f"the body did not arrive within {self.max_seconds:g} s")
                raise answer.failure from error
            total += len(message.get("body", b""))
            finished = message["type"] != "http.request" or not message.get("more_body", False)
            if total > self.max_bytes:
                answer.failure = BodyTooLarge(f"a body here has at most {self.max_bytes} bytes")
                raise answer.failure
            return message

        return bounded


class _Answer:
    """Passes the application's answer on, unless its body failed before: then what it made of that is not heard."""

    def __init__(self, send: Callable[[Message], Awaitable[None]]) -> None:
        self.inner = send
        self.started = False
        self.failure: BodyTooLarge | BodyTooSlow | None = None

    async def send(self, message: Message) -> None:
        if self.failure is None or self.started:
            self.started = True
            await self.inner(message)


async def _refuse(send: Any, status: int, code: str, detail: str) -> None:
    body = f'{{"status":{status},"code":"{code}","detail":"{detail}"}}'.encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
