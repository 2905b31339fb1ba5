"""The client that waits for its answers."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from control_plane.client.ask import Ask, Blocking, Pages, Patience
from control_plane.client.calls import Calls
from control_plane.client.errors import ClientError, read_problem, unreachable
from control_plane.client.files import Files

T = TypeVar("T")


class Client(Calls, Files, Blocking):
    """One control plane, one token.

    Every call may be repeated: a server that does not answer, 503 and 429 are tried again with back-off until
    `patience_s` is over, so a restarted API or database only delays; what is created carries an idempotency key.

    >>> with Client(server, token) as client:
    ...     sorted(device.serial for device in client.list_devices(device_class="cart"))
    ['sn-0', 'sn-1']

    A failure is one of the kinds of `ClientError`:

    >>> with Client(server, token) as client:
    ...     client.get_rollout("roll_none")
    Traceback (most recent call last):
    control_plane.client.errors.NotFound: there is no rollout roll_none
    """

    def __init__(self, server: str, token: str, *, patience_s: float = 60.0, timeout_s: float = 60.0) -> None:
        self.server = server.rstrip("/")
        self.http = httpx.Client(timeout=timeout_s)
        self._patience_s = patience_s
        self._headers = {"Authorization": f"Bearer {token}"}

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(
        self, method: str, path: str, *, body: BaseModel | None = None, key: str | None = None, **query: Any
    ) -> Any:
        """Call `/api/v1PATH` and return the JSON of its answer, for routes that have no method here."""
        return self.make(Ask(object, method, path, body, query, key))

    def make(self, ask: Ask[T]) -> T:
        url, content = f"{self.server}/api/v1{ask.path}", ask.content()
        headers, timeout = self._headers | ask.headers(), ask.timeout_s or self.http.timeout

        def send() -> httpx.Response:
            return checked(
                self.http.request(
                    ask.method, url, content=content, headers=headers, params=ask.params(), timeout=timeout
                )
            )

        return ask.read(self.patiently(send).content)

    def walk(self, pages: Pages[T]) -> Iterator[T]:
        after: str | None = None
        while True:
            items, after = pages.read(self.make(pages.ask(after)))
            yield from items
            if after is None:
                return

    def patiently(self, call: Callable[[], T]) -> T:
        """Call until it succeeds, is refused, or patience is over; what is called must bear repetition."""
        patience = Patience(self._patience_s)
        while True:
            try:
                return call()
            except httpx.TransportError as error:
                failure: ClientError = unreachable(self.server, error)
            except (httpx.InvalidURL, UnicodeError) as error:
                raise unreachable(self.server, error) from error
            except ClientError as error:
                failure = error
            time.sleep(patience.pause_after(failure))

    @contextmanager
    def stream(self, url: str) -> Iterator[httpx.Response]:
        """GET a signed URL piece by piece."""
        with self.http.stream("GET", self.absolute(url)) as answer:
            yield checked(answer)

    def put_bytes(self, url: str, content: Any, headers: Mapping[str, str]) -> None:
        checked(self.http.put(self.absolute(url), content=content, headers=dict(headers)))

    def absolute(self, url: str) -> str:
        return f"{self.server}{url}" if url.startswith("/") else url


def checked(answer: httpx.Response) -> httpx.Response:
    """Return an answer that is a success, or raise what it says went wrong."""
    if answer.is_success:
        return answer
    answer.read()
    raise read_problem(answer)
