"""What can go wrong with a call: one tree, whose kinds are those of the server (`control_plane.kit.errors`).

ClientError
├── NotFound          404  the thing is not there
├── Conflict          409  it is there, but not in the state you think
├── Invalid           422  what you sent does not make sense
├── Refused           403  it makes sense, but the rules forbid it
├── Unauthenticated   401  no token, or one that is unknown or revoked
├── Forbidden         403  a token that may not do this
├── TooLarge          413  more than is read
├── TooMany           429  more often than is answered; `retry_after_s` says when to come back
└── Unavailable       503  not ready just now; 0: nobody answers at all

`code` is stable and for programs, `detail` is a sentence for people.
"""

from collections.abc import Mapping
from typing import Any

import httpx

UNREACHABLE = 0
GATEWAY = frozenset({502, 503, 504})


class ClientError(Exception):
    """The control plane refused or could not be reached; `code` is the problem's code, `status` 0 without an answer."""

    retry_after_s: float | None = None

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class NotFound(ClientError):  # noqa: N818 - the server's word
    pass


class Conflict(ClientError):  # noqa: N818 - the server's word
    pass


class Invalid(ClientError):  # noqa: N818 - the server's word
    pass


class Refused(ClientError):  # noqa: N818 - the server's word
    pass


class Unauthenticated(ClientError):  # noqa: N818 - the server's word
    pass


class Forbidden(ClientError):  # noqa: N818 - the server's word
    pass


class TooLarge(ClientError):  # noqa: N818 - the server's word
    pass


class TooMany(ClientError):  # noqa: N818 - the server's word
    pass


class Unavailable(ClientError):  # noqa: N818 - the server's word
    pass


KINDS: dict[int, type[ClientError]] = {
    UNREACHABLE: Unavailable,
    400: Invalid,
    401: Unauthenticated,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: TooMany,
    **dict.fromkeys(GATEWAY, Unavailable),
}


def problem_of(status: int, code: str, detail: str, retry_after_s: float | None = None) -> ClientError:
    """Return the failure of the right kind; of two kinds with the status 403, `forbidden` is about the token."""
    forbidden = Forbidden if code == "forbidden" else Refused
    error = (forbidden if status == 403 else KINDS.get(status, ClientError))(status, code, detail)
    error.retry_after_s = retry_after_s
    return error


def unreachable(server: str, error: Exception) -> Unavailable:
    return Unavailable(UNREACHABLE, "unreachable", f"{server} does not answer: {error!r}")


def read_problem(answer: httpx.Response) -> ClientError:
    """Return what an answer, read to its end, says went wrong: an RFC 9457 problem, or whatever a proxy wrote."""
    wait = answer.headers.get("Retry-After", "")
    retry_after_s = float(wait) if wait.isdigit() else None
    try:
        said: Mapping[str, Any] = answer.json()
        return problem_of(answer.status_code, str(said["code"]), str(said["detail"]), retry_after_s)
    except (ValueError, KeyError, TypeError):
        return problem_of(answer.status_code, "http_error", answer.text[:300] or answer.reason_phrase, retry_after_s)
