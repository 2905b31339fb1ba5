"""Headers that every answer to a browser carries, whoever made it: pages set stricter or looser ones of their own."""

from collections.abc import Mapping
from typing import Any

from control_plane.kit.limits import App

PLAIN = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}


class SafeHeaders:
    """ASGI middleware: adds those of `PLAIN` that an answer has not set itself; devices' paths are `free` of it."""

    def __init__(self, app: App, *, free: tuple[str, ...] = ()) -> None:
        self.app = app
        self.free = free

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self.free):
            await self.app(scope, receive, send)
            return

        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                said = {name.lower() for name, _ in message["headers"]}
                more = [(name, value) for name, value in PLAIN.items() if name not in said]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self.app(scope, receive, with_headers)
