"""What the stand-ins for clusters share: an HTTP server of this process, and refusals that a test has ordered."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    def json(self) -> Any:
        return json.loads(self.body or b"null")


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any = None
    """Bytes go as they are, anything else as JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def served(answer: Callable[[Request], Reply], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve on a loopback port; `answer` is called in a thread for each connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _go(self) -> None:
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            request = Request(self.command, unquote(parts.path), dict(parse_qsl(parts.query)), headers, body)
            reply = answer(request)
            plain = isinstance(reply.body, bytes)
            sent = reply.body if plain else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", "text/plain" if plain else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_DELETE = _go  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Nothing of it is wanted on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Refusals:
    """Answers that a test orders before they are due: each is given once to the next request that it is for."""

    due: list[tuple[str, str, Reply, str]] = field(default_factory=list)

    def order(self, method: str, ending: str, reply: Reply, times: int = 1, having: str = "") -> None:
        """Order replies to requests whose path ends so, `having` for those only whose query has such a word."""
        self.due += [(method, ending, reply, having)] * times

    def next_for(self, request: Request) -> Reply | None:
        for each in self.due:
            method, ending, reply, having = each
            fits = request.method == method and request.path.endswith(ending)
            if fits and (not having or having in request.query):
                self.due.remove(each)
                return reply
        return None


@contextmanager
def ticking(tick: Callable[[], None], every_s: float = 0.05) -> Iterator[None]:
    """Call something again and again in a thread, as controllers do."""
    stop = threading.Event()
    broken: list[BaseException] = []

    def loop() -> None:
        while not stop.wait(every_s):
            try:
                tick()
            except BaseException as error:  # noqa: BLE001 - told to the test below
                broken.append(error)
                return

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if broken:
        raise broken[0]
