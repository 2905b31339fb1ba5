"""What can go wrong, by kind. The edge turns a kind into a status (kit.http); nothing here knows HTTP.

Problem
├── NotFound      the thing is not there
├── Conflict      it is there, but not in the state you think
├── Invalid       what you sent does not make sense
├── Refused       it makes sense, but the rules forbid it
├── Unauthenticated / Forbidden
├── TooLarge      more than is read
├── TooMany       more often than is answered
└── Unavailable   try again later
"""

from collections.abc import Awaitable, Callable
from typing import Any


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """A failure with a stable `code` and a sentence for people."""

    code = "problem"
    afterwards: Callable[[Any], Awaitable[None]] | None = None
    """What to write once the request's own transaction is undone: a refusal may have to be remembered."""

    def __init__(self, detail: str, *, code: str | None = None, **extra: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra
        if code is not None:
            self.code = code


class NotFound(Problem):
    code = "not_found"


class Conflict(Problem):
    code = "conflict"


class Invalid(Problem):
    code = "invalid"


class Refused(Problem):
    code = "refused"


class Unauthenticated(Problem):
    code = "unauthenticated"


class Forbidden(Problem):
    code = "forbidden"


class TooLarge(Problem):
    code = "too_large"


class TooMany(Problem):
    """Asked too often; `retry_after_s` says when to come back."""

    code = "too_many_requests"

    def __init__(self, detail: str, retry_after_s: float, *, code: str | None = None) -> None:
        super().__init__(detail, code=code, retry_after_s=retry_after_s)
        self.retry_after_s = retry_after_s


class Unavailable(Problem):
    code = "unavailable"
