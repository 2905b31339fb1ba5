"""Reads those check-ins that can be read in a microsecond or two: as the agent writes them, and no other.

Everything else is None here and goes to `agents.protocol.v1.strict_json`, which says what is wrong with it. What is
read here has one reading: every key of the top level stands where the agent writes it, once; nothing is escaped; what
is between is either looked into (number, nonce, time, gauges, facts) or named by `said`, and answered only if it is
what was read strictly before.
"""

import re
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from agents.protocol.v1 import LIMITS
from control_plane.fleet.service import name_of

_NUMBER = rb"0|[1-9][0-9]{0,14}"
_FLAT = rb"\{[^{}\\]*\}"
_NESTED = rb"\{[^{}\\]*(?:" + _FLAT + rb"[^{}\\]*)?\}"
_AGENTS = re.compile(
    rb'\{"boot_id":"([^"\\]{1,64})","seq":('
    + _NUMBER
    + rb'),"nonce":"([!#-\[\]-~]{16,64})","sent_at":("[^"\\]{1,40}"),'
    rb'("agent_version":"[^"\\]{0,40}","active":(?:null|' + _FLAT + rb'),"deployment":(?:null|' + _NESTED + rb"),"
    rb'"counter_floor":[0-9]{1,10}),(?:"trust_revision":(?:' + _NUMBER + rb"),)?"
    rb'"spool":(' + _FLAT + rb'),"platform":(' + _FLAT + rb")\}"
)
_FLOATS = Annotated[float, Meta(ge=-1e300, le=1e300)]
_INTEGERS = Annotated[int, Meta(ge=-(2**53), le=2**53)]
_TIME = msgspec.json.Decoder(Annotated[datetime, Meta(tz=True)])
_GAUGES = msgspec.json.Decoder(Annotated[dict[str, Annotated[float, Meta(ge=0, le=1e12)]], Meta(max_length=32)])
_FACTS = msgspec.json.Decoder(Annotated[dict[str, str | _INTEGERS | _FLOATS | bool | None], Meta(max_length=64)])
_EMPTY = b"{}"
_SPACED = re.compile(rb'"[ \t\r\n]')


class Plain(msgspec.Struct, gc=False):
    """`agents.protocol.v1.CheckIn`, as far as it has to be looked into if all else is as it was.

    `said` names everything that is news when it changes; `gauges` and `facts` are JSON.
    """

    boot_id: bytes
    seq: int
    nonce: bytes
    said: int
    gauges: bytes
    facts: bytes

    def are_gauges(self) -> bool:
        return _holds(_GAUGES, self.gauges)

    def are_facts(self) -> bool:
        return self.facts == _EMPTY or _holds(_FACTS, self.facts)


def read_plain(body: bytes) -> Plain | None:
    """Return a check-in that is written as the agent does; `said`, `are_gauges` and `are_facts` judge the rest."""
    if len(body) > LIMITS["check_in_bytes"] or (found := _AGENTS.fullmatch(body)) is None:
        return None
    boot_id, seq, nonce, sent_at, said, gauges, facts = found.groups()
    try:
        _TIME.decode(sent_at)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Plain(boot_id, int(seq), nonce, name_of(boot_id, said), gauges, facts)


def _holds(decoder: "msgspec.json.Decoder[dict[str, object]]", text: bytes) -> bool:
    """Say whether an object is as it should be and has no key twice.

    Where no quotation mark is followed by white space, every key ends in `":`; so there are at least as many of these
    as keys, and exactly as many as different keys only if none was there twice.
    """
    try:
        return len(decoder.decode(text)) == text.count(b'":') and _SPACED.search(text) is None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
