"""The typed client of `/api/v1`: what flows, the command line and users' scripts speak with the control plane.

`Client` waits for its answers, `AsyncClient` is for asyncio; both have the same calls, each defined once in
`calls`. They share the server's schemas and carry no server.
"""

from control_plane.client.ask import Ask, post
from control_plane.client.awaiting import AsyncClient
from control_plane.client.blocking import Client
from control_plane.client.calls import Calls
from control_plane.client.errors import (
    ClientError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from control_plane.client.files import PART_BYTES, Told, file_digest

__all__ = [
    "PART_BYTES",
    "Ask",
    "AsyncClient",
    "Calls",
    "Client",
    "ClientError",
    "Conflict",
    "Forbidden",
    "Invalid",
    "NotFound",
    "Refused",
    "Told",
    "TooLarge",
    "TooMany",
    "Unauthenticated",
    "Unavailable",
    "file_digest",
    "post",
]
