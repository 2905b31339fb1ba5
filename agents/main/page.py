"""A page and Prometheus metrics on loopback: what `status` says, for a browser and a scraper on the device itself.

Off unless `status.port` is set. It reads one small request each from few connections, answers GET only, and only to
names of this machine: a web page somewhere else must not read it through the browser of somebody here.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

_REQUEST_BYTES: Final = 4096
_CONNECTIONS: Final = 8
_PATIENCE_S: Final = 5.0
_HOSTS: Final = frozenset({"127.0.0.1", "localhost"})
_log = logging.getLogger("fleetloop.agent")


class LoopbackPage:
    """`facts` gives what the page shows, `numbers` the gauges; both are asked anew for each request."""

    def __init__(
        self, port: int, facts: Callable[[], Mapping[str, Any]], numbers: Callable[[], dict[str, float]]
    ) -> None:
        self._port, self._facts, self._numbers = port, facts, numbers
        self._open = 0

    async def run(self) -> None:
        """Serve until cancelled; a port that is taken costs the page, not the agent."""
        try:
            server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=_REQUEST_BYTES, backlog=16)
        except OSError as error:
            _log.warning("no status page on port %d: %s", self._port, error)
            return
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _CONNECTIONS:
                request = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _PATIENCE_S)
                writer.write(self._answer(request))
                await asyncio.wait_for(writer.drain(), _PATIENCE_S)
        except (asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # a visitor that is too slow, too long or gone
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, request: bytes) -> bytes:
        lines = request.decode("latin-1").split("\r\n")
        method, path = [*lines[0].split(" "), "", ""][:2]
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        if headers.get("host", "").rsplit(":", 1)[0] not in _HOSTS:
            return _response(403, "text/plain", "only for this machine\n")
        if method != "GET":
            return _response(405, "text/plain", "GET only\n")
        if path == "/metrics":
            return _response(200, "text/plain; version=0.0.4", _metrics(self._numbers()))
        if path == "/":
            return _response(200, "text/html", _page(self._facts()))
        return _response(404, "text/plain", "/ and /metrics\n")


_STATUS: Final = {200: "OK", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}


def _response(status: int, kind: str, text: str) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status} {_STATUS[status]}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _metrics(numbers: Mapping[str, float]) -> str:
    lines = []
    for name, value in sorted(numbers.items()):
        family = f"fleetloop_agent_{name.partition('{')[0]}"
        lines += [f"# TYPE {family} gauge", f"fleetloop_agent_{name} {value:g}"]
    return "\n".join(lines) + "\n"


def _page(facts: Mapping[str, Any]) -> str:
    import html  # noqa: PLC0415 - 0.8 MB of entity tables that a device whose page nobody reads does without

    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(each))}</td></tr>" for name, each in facts.items()
    )
    style = "body{font:14px sans-serif;margin:2em}th{text-align:left;padding:.2em 1em .2em 0;vertical-align:top}"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="10">'
        f"<title>fleetloop agent</title><style>{style}</style><h1>fleetloop agent</h1><table>{rows}</table></html>"
    )
