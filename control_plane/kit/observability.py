"""Logs as JSON lines on stderr, for people and collectors alike; each line says which request it belongs to."""

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from secrets import token_hex
from typing import Any, Final

from control_plane.kit import tracing
from control_plane.kit.limits import App

HEADER: Final = b"x-request-id"
PLAIN: Final = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := REQUEST_ID.get():
            line["request_id"] = request
        if trace := tracing.trace_id():
            line["trace_id"] = trace
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(level: int = logging.INFO) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)


def our_version() -> str:
    """Return the version that is installed, "unknown" where it is not installed as a package."""
    try:
        return version("fleetloop")
    except PackageNotFoundError:
        return "unknown"


class RequestIds:
    """ASGI middleware: gives every request an id, or keeps that of the proxy in front, and answers with it.

    An id that somebody sends is kept only if it is plain and short: it ends up in logs.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = next((value for name, value in scope["headers"] if name == HEADER), b"")
        request = sent if PLAIN.fullmatch(sent) else token_hex(8).encode()
        token = REQUEST_ID.set(request.decode())

        async def with_id(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (HEADER, request)]}
            await send(message)

        try:
            await self.app(scope, receive, with_id)
        finally:
            REQUEST_ID.reset(token)
