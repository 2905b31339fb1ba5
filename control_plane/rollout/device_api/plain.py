"""Reads those check-ins that can be read in a microsecond: what the agent sends, and nothing that has two readings.

Everything else is None here and goes to `agents.protocol.v1.strict_json`, which says what is wrong with it.

Why no key can stand twice in what is read here: nothing is escaped, and no quotation mark is followed by white space,
so every key ends in `":` and there are at least as many of these as keys. Where there are exactly as many as different
keys were found, no key was there twice.
"""

import re
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from agents.protocol.v1 import LIMITS
from control_plane.fleet.service import name_of

_SPACED = re.compile(rb'"[ \t\r\n]')
_NONE = Raw(b"")
_FLOATS = Annotated[float, Meta(ge=-1e300, le=1e300)]
_INTEGERS = Annotated[int, Meta(ge=-(2**53), le=2**53)]
_GAUGES = msgspec.json.Decoder(Annotated[dict[str, Annotated[float, Meta(ge=0, le=1e12)]], Meta(max_length=32)])
_FACTS = msgspec.json.Decoder(Annotated[dict[str, str | _INTEGERS | _FLOATS | bool | None], Meta(max_length=64)])
_KEY = b'":'
_REQUIRED = 5


class Plain(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """`agents.protocol.v1.CheckIn`, as far as it has to be looked into if all else is as it was."""

    boot_id: str
    seq: Annotated[int, Meta(ge=0, le=2**53)]
    nonce: Annotated[str, Meta(min_length=16, max_length=64)]
    sent_at: Annotated[datetime, Meta(tz=True)]
    agent_version: str
    active: Raw = _NONE
    deployment: Raw = _NONE
    counter_floor: int = -1
    trust_revision: Annotated[int, Meta(ge=-1, le=2**53)] = -1
    spool: Raw = _NONE
    platform: Raw = _NONE

    @property
    def said(self) -> int:
        """Name everything that is news when it changes."""
        active, deployment = bytes(self.active), bytes(self.deployment)
        return name_of(self.boot_id, self.agent_version, active, deployment, self.counter_floor)

    @property
    def gauges(self) -> bytes | None:
        return bytes(self.spool) if self.spool else None

    @property
    def facts(self) -> bytes | None:
        found = bytes(self.platform)
        return found if len(found) > 2 else None

    def are_gauges(self) -> bool:
        return not self.spool or _holds(_GAUGES, self.spool)

    def are_facts(self) -> bool:
        return not self.platform or _holds(_FACTS, self.platform)


_PLAIN = msgspec.json.Decoder(Plain)


def read_plain(body: bytes) -> Plain | None:
    """Return a check-in whose top level has one reading; `said`, `are_gauges` and `are_facts` judge the rest of it."""
    if len(body) > LIMITS["check_in_bytes"] or b"\\" in body or (_is_spaced(body) and _SPACED.search(body)):
        return None
    try:
        found = _PLAIN.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    nested = (found.active, found.deployment, found.spool, found.platform)
    keys = _REQUIRED + (found.counter_floor >= 0) + (found.trust_revision >= 0)
    inner = 0
    for raw in nested:
        if raw is not _NONE:
            keys += 1
            inner += bytes(raw).count(_KEY)
    return found if body.count(_KEY) - inner == keys else None


def _is_spaced(body: bytes) -> bool:
    return b" " in body or b"\n" in body or b"\t" in body or b"\r" in body


def _holds(decoder: "msgspec.json.Decoder[dict[str, object]]", raw: Raw) -> bool:
    text = bytes(raw)
    try:
        return len(decoder.decode(text)) == text.count(_KEY)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
