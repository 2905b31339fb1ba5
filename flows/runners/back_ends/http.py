"""HTTP calls to clusters: bounded in time and size, with a token that is read anew for each, told as BackEndError."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from flows.runners.back_ends.interface import LOG_BYTES, BackEndError

TIMEOUT_S = 30.0
WHOLE_S = 60.0
"""How long an answer may take as a whole, however steadily it comes."""
MAX_ANSWER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What a cluster answered; `headers` in small letters."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def read(self) -> dict[str, Any]:
        """Return the answer's object; whatever else came, a proxy may have said it in the cluster's place."""
        try:
            told = httpx.Response(self.status, content=self.body).json()
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise BackEndError(f"not an answer of the cluster: {self.status} {self.last_line}")
        return told

    @property
    def last_line(self) -> str:
        return last_line(self.body.decode(errors="replace"))


class Caller:
    """Speaks to one cluster; `token` returns what to send, None for nothing."""

    def __init__(self, what: str, address: str, token: Callable[[], str | None], verify: Any = True) -> None:
        self._what, self._address, self._token = what, address, token
        # No proxy of this machine's environment: the token must reach the cluster and nobody else.
        self._http = httpx.Client(base_url=address, timeout=TIMEOUT_S, trust_env=False, verify=verify)

    def ask(self, method: str, path: str, **values: Any) -> Answer:
        with self._open(method, path, values) as answer:
            body = b"".join(_bounded(answer.iter_bytes(), self._what, MAX_ANSWER_BYTES))
            return Answer(answer.status_code, body, {name.lower(): value for name, value in answer.headers.items()})

    def tail(self, path: str, **values: Any) -> Answer:
        """Return the end of a text, whatever its length."""
        with self._open("GET", path, values) as answer:
            kept: deque[bytes] = deque()
            for piece in _bounded(answer.iter_bytes(LOG_BYTES), self._what, 1 << 40):
                kept.append(piece)
                while len(kept) > 2:
                    kept.popleft()
            return Answer(answer.status_code, b"".join(kept)[-LOG_BYTES:], {})

    def close(self) -> None:
        self._http.close()

    @contextmanager
    def _open(self, method: str, path: str, values: Mapping[str, Any]) -> Iterator[httpx.Response]:
        try:
            token = self._token()
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            with self._http.stream(method, path, headers=headers, **values) as answer:
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            raise BackEndError(f"{self._what} at {self._address}: {type(error).__name__}: {error}") from error


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][-300:] if lines else ""


def _bounded(pieces: Iterator[bytes], what: str, most_bytes: int) -> Iterator[bytes]:
    size, end = 0, time.monotonic() + WHOLE_S
    for piece in pieces:
        size += len(piece)
        if size > most_bytes:
            raise BackEndError(f"{what} answers with over {most_bytes} bytes")
        if time.monotonic() > end:
            raise BackEndError(f"{what} is not done answering after {WHOLE_S:g} s")
        yield piece
