"""Identifiers that sort by the time they were made: a prefix, 48 bits of milliseconds, 80 random bits (as ULID)."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str) -> str:
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    text = "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
    return f"{prefix}_{text}"
