"""Listeners: operators by plain HTTP, devices by mutual TLS or through a proxy; one application, one lifespan.

uvicorn hands no client certificate to the application, so our protocol puts it into the scope under `PEER`. A request
without that key came in by a listener that vouches for nobody. `SEAT` is what the application may remember of such a
connection. `PROXIED` marks a request whose client certificate is in a header that a proxy wrote.
"""

import asyncio
import contextlib
import signal
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from control_plane.kit import clock, tracing
from control_plane.kit.certificates import SERVER_LIFE, Authority
from control_plane.kit.metrics import ShortcutCount

PEER = "fleetloop.peer"
PROXIED = "fleetloop.proxied"
SEAT = "fleetloop.seat"
KEEP_ALIVE_S = 75
HEADERS_BYTES = 64 << 10
HEADER_S = 10.0


class Seat:
    """What the application remembers of a TLS connection: whose certificate it came with, and until when it is good."""

    __slots__ = ("expires_at_s", "holder")

    def __init__(self) -> None:
        self.holder: Any = None
        self.expires_at_s = 0.0


Respond = Callable[[bytes | None], None]


class Shortcut(Protocol):
    """Answers some requests to one path before there is an ASGI application in the game."""

    def take(self, scope: Mapping[str, Any], body: bytes, respond: Respond) -> bool:
        """Say whether this request is answered here.

        `respond` is then called once: with the JSON of a 200, or with None to let the application answer after all.
        """


Shortcuts = Mapping[str, Shortcut]
"""By path."""


class DeviceProtocol(HttpToolsProtocol):
    """HTTP/1.1 that remembers the certificate of its TLS connection; b"" where the device showed none.

    A request whose body came together with its head is shown to the application's shortcuts first. What they do not
    take, and every other request, goes the way uvicorn knows.
    """

    header_s = HEADER_S
    _peer = b""
    _header_timer: asyncio.TimerHandle | None = None
    _held: RequestResponseCycle | None = None
    _reading = False

    def __init__(self, config: uvicorn.Config, *arguments: Any, **named: Any) -> None:
        super().__init__(config, *arguments, **named)
        self._shortcuts: Shortcuts = getattr(config.app, "shortcuts", {})
        self._counts = {path: counter_of(path) for path in self._shortcuts}
        self._traces = tracing.is_on()

    def data_received(self, data: bytes) -> None:
        self._reading = True
        super().data_received(data)
        self._reading = False
        if self._held is not None:
            self._let_go(self._held)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["path"] not in self._shortcuts:
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body and self._reading:
            self._held = cycle  # its body may be among the bytes that are being read
        elif cycle.more_body or not self._is_taken(cycle):
            super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        held = self._held
        if held is not None and not held.more_body:
            if self._is_taken(held):
                self._held = None
            else:
                self._let_go(held)

    def _let_go(self, cycle: RequestResponseCycle) -> None:
        self._held = None
        super()._start_asgi_task(cycle, self.app)

    def _is_taken(self, cycle: RequestResponseCycle) -> bool:
        if cycle.waiting_for_100_continue or self.flow.write_paused or cycle.disconnected:
            return False
        if self._traces and tracing.is_sampled(cycle.scope["headers"]):
            return False  # only the application's way has spans
        shortcut = self._shortcuts[cycle.scope["path"]]
        return shortcut.take(cycle.scope, bytes(cycle.body), partial(self._respond, cycle, time.perf_counter()))

    def _respond(self, cycle: RequestResponseCycle, begun: float, body: bytes | None) -> None:
        """Answer as uvicorn does."""
        if cycle.disconnected:
            return
        if body is None:
            super()._start_asgi_task(cycle, self.app)
            return
        cycle.response_started = cycle.response_complete = True
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        size = b"content-length: %d\r\ncontent-type: application/json\r\n\r\n" % len(body)
        self.transport.write(b"".join((_head(tuple(cycle.default_headers)), close, size, body)))
        if not cycle.keep_alive:
            self.transport.close()
        self._counts[cycle.scope["path"]].count(time.perf_counter() - begun)
        cycle.on_response()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base class has it
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        self._peer = (tls.getpeercert(binary_form=True) or b"") if tls is not None else b""
        self._seat = Seat()
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._mark(self.scope)  # type: ignore[arg-type] # a TypedDict that knows the standard's keys only
        self._expect_header()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def _expect_header(self) -> None:
        """Close what does not bring a whole header in time; uvicorn itself waits for ever."""
        self._stop_timer()
        self._header_timer = self.loop.call_later(self.header_s, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _mark(self, scope: dict[str, Any]) -> None:
        scope[PEER], scope[SEAT] = self._peer, self._seat


@cache
def counter_of(path: str) -> ShortcutCount:
    return ShortcutCount(path)


@lru_cache(maxsize=8)
def _head(default_headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Return the head of a 200 as far as it is the same for a second."""
    return b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % each for each in default_headers)


class ProxiedProtocol(DeviceProtocol):
    def _mark(self, scope: dict[str, Any]) -> None:
        scope[PROXIED] = True


class Listener(uvicorn.Server):
    """One of several servers of a process: signals and lifespan are not its business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def refresh(self) -> None:
        """Keep alive what expires."""


class TlsListener(Listener):
    def __init__(self, config: uvicorn.Config, renew: Callable[[], None]) -> None:
        super().__init__(config)
        self._renew = renew

    async def refresh(self) -> None:
        while True:
            await asyncio.sleep(SERVER_LIFE.total_seconds() / 2)
            self._renew()


def plain(app: Any, host: str, port: int) -> Listener:
    return Listener(_config(app, host=host, port=port))


def mutual_tls(app: Any, host: str, port: int, authority: Authority, names: Sequence[str]) -> Listener:
    """Devices' own port: TLS 1.3; our client certificates are asked for but not needed, for enrolment has none yet."""
    context = server_context(authority, names)
    config = _config(
        _OnlyDevices(app),
        host=host,
        port=port,
        http=DeviceProtocol,
        ssl_context_factory=lambda *_: context,
        proxy_headers=False,
    )
    return TlsListener(config, lambda: load_server_certificate(context, authority, names))


def behind_proxy(app: Any, *, socket: Path | None = None, host: str = "127.0.0.1", port: int = 0) -> Listener:
    """Where nginx or Envoy hands on what devices send, by a unix socket or (with a shared secret) a port."""
    where: dict[str, Any] = {"uds": str(socket)} if socket else {"host": host, "port": port}
    return Listener(_config(_OnlyDevices(app), http=ProxiedProtocol, proxy_headers=False, **where))


def server_context(authority: Authority, names: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=authority.pem)
    load_server_certificate(context, authority, names)
    return context


def load_server_certificate(context: ssl.SSLContext, authority: Authority, names: Sequence[str]) -> None:
    """Give a context a fresh key and certificate; connections that stand keep the ones they began with."""
    key, chain = authority.issue_server(names, clock.now())
    # The ssl module reads keys from files only.
    with tempfile.TemporaryDirectory(prefix="fleetloop-") as folder:
        (Path(folder) / "key.pem").touch(mode=0o600)
        (Path(folder) / "key.pem").write_bytes(key)
        (Path(folder) / "chain.pem").write_bytes(chain)
        context.load_cert_chain(Path(folder) / "chain.pem", Path(folder) / "key.pem")


async def serve(app: Any, listeners: Sequence[Listener], on_stop: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, which `on_stop` hears first; the lifespan is around all listeners."""

    def stop() -> None:
        on_stop()
        for each in listeners:
            each.force_exit = each.should_exit  # the second signal is in a hurry
            each.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with app.router.lifespan_context(app):
        refreshing = [asyncio.create_task(each.refresh()) for each in listeners]
        try:
            await asyncio.gather(*(each.serve() for each in listeners))
        finally:
            for task in refreshing:
                task.cancel()


def _config(app: Any, **values: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=HEADERS_BYTES,
        **values,
    )


class _OnlyDevices:
    """Keeps people's routes off the network that devices are on."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.shortcuts: Shortcuts = getattr(app, "shortcuts", {})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(("/device/", "/objects/", "/healthz")):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)
