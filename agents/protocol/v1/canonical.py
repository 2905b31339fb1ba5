"""Bytes that mean one thing: canonical JSON out, strict JSON in."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Return sorted, compact UTF-8 JSON; raises ValueError on NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """Return the sha256, in lower-case hex, of the canonical JSON of a value."""
    return sha256_hex(canonical_json(value))


def strict_json(data: bytes, max_bytes: int) -> Any:
    """Parse JSON that leaves no room for two readings.

    Raises:
        ValueError: over-size, not UTF-8, a key twice in one object, NaN or an infinity, or not JSON at all.
    """
    if len(data) > max_bytes:
        raise ValueError(f"body has {len(data)} bytes, at most {max_bytes} are read")
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice[:64]!r} stands twice in one object")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:24]} is too large for a number")
    return number
