"""A port of its own for Prometheus and for probes, so that neither strangers nor people's sessions come near it."""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from prometheus_client.exposition import choose_encoder

from control_plane.kit import metrics
from control_plane.kit.db import Database

BEAT_S: Final = 0.25
Check = Callable[[], Awaitable[str]]
"""Says what is wrong, "" if nothing is."""


def add_metrics_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metrics-port", type=int, help="port of /metrics, /healthz and /readyz; none if unset")
    parser.add_argument("--metrics-host", default="127.0.0.1", help="where Prometheus and probes come from")


class MetricsApp:
    """ASGI application of three paths: /metrics, /healthz (this process turns) and /readyz (it can do its work)."""

    def __init__(self, health: Sequence[Check] = (), ready: Sequence[Check] = ()) -> None:
        self._checks = {"/healthz": health, "/readyz": ready}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        del receive
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path == "/metrics":
            accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
            encode, kind = choose_encoder(accept)
            await _answer(send, 200, encode(metrics.REGISTRY), kind)
        elif path in self._checks:
            wrong = [said for check in self._checks[path] if (said := await check())]
            await _answer(send, 503 if wrong else 200, ("\n".join(wrong) or "ok").encode() + b"\n", "text/plain")
        else:
            await _answer(send, 404, b"only /metrics, /healthz and /readyz are here\n", "text/plain")


async def _answer(send: Any, status: int, body: bytes, kind: str) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def database_ready(database: Database) -> Check:
    async def check() -> str:
        return "" if await database.ready() else "the database does not answer"

    return check


async def beat(database: Database) -> None:
    """Measure for ever how late this process turns to what is due, and how many connections it holds."""
    metrics.CONNECTIONS_MOST.set(database.connections_most)
    while True:
        due = time.perf_counter() + BEAT_S
        await asyncio.sleep(BEAT_S)
        metrics.LOOP_LAG_S.observe(max(time.perf_counter() - due, 0.0))
        metrics.CONNECTIONS.set(database.connections_in_use)
