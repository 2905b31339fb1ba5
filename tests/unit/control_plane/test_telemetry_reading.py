"""The quick reader takes nothing that the strict one refuses, and understands the same by it."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from agents.protocol import v1 as wire
from control_plane.kit.device_http import parse
from control_plane.kit.errors import Invalid
from control_plane.telemetry.domain import read_plain

WINDOW: dict[str, Any] = {
    "seq": 1,
    "content_digest": "c" * 64,
    "started_at": "2026-01-01T00:00:00+05:30",
    "ended_at": "2026-01-01T00:00:10.123456Z",
    "distance_m": 8.25,
    "duration_s": 10,
    "decisions": 100,
    "energy_j": None,
    "counts": {"near_miss": 1},
    "latency_p50_ms": 1.25,
    "latency_p99_ms": 3.5,
}
EVENT: dict[str, Any] = {
    "seq": 2,
    "event_id": "ev-1",
    "kind": "collision",
    "content_digest": "c" * 64,
    "at": "2026-01-01T00:00:05Z",
    "details": {"speed": 1.5, "where": {"aisle": "B 7", "shelves": [{"n": 1}, {"n": 2}]}},
    "recording_sha256": None,
}
BATCH: dict[str, Any] = {"stream_id": "s-1", "windows": [WINDOW, WINDOW | {"seq": 3}], "events": [EVENT]}
COMPACT = json.dumps(BATCH, separators=(",", ":")).encode()


def strict(body: bytes) -> wire.TelemetryBatch | None:
    try:
        return parse(wire.TelemetryBatch, body)
    except Invalid:
        return None


def agree(body: bytes) -> bool:
    """Check that what is read quickly is what is read strictly; say whether it was read quickly."""
    quick = read_plain(body)
    if quick is None:
        return False
    message = strict(body)
    assert message is not None, body
    stream_id, windows, events = quick
    assert stream_id == message.stream_id
    for kind, found, wanted in (("w", windows, message.windows), ("e", events, message.events)):
        assert len(found) == len(wanted), kind
        for one, other in zip(found, wanted, strict=True):
            known = {name: getattr(one, name) for name in type(other).model_fields if hasattr(one, name)}
            known = {name: None if value is msgspec.UNSET else value for name, value in known.items()}
            assert known == other.model_dump(), body
    return True


def test_what_agents_send_is_read_quickly() -> None:
    unsaid = {"windows": {"__all__": {"temperature_max_c", "throttled_s"}}}
    written = wire.TelemetryBatch.model_validate(BATCH).model_dump_json(exclude=unsaid).encode()
    assert agree(written)
    assert agree(COMPACT)
    assert agree(json.dumps(BATCH).encode())
    for heat in ({"temperature_max_c": 61.5}, {"throttled_s": 0.0}, {"temperature_max_c": -4, "throttled_s": 2}):
        assert agree(json.dumps(BATCH | {"windows": [WINDOW, WINDOW | {"seq": 3} | heat]}).encode())
    assert agree(b'{"stream_id":"s","windows":[]}')
    assert read_plain(COMPACT)[1][0].ended_at == datetime(2026, 1, 1, 0, 0, 10, 123456, UTC)  # type: ignore[index]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seq":1,', '"seq":1,"seq":1,'),
        ('"seq":1,', '"seq" :1,"seq":1,'),
        ('"seq":1,', '"seq"\n:1,"seq":1,'),
        ('"near_miss":1', '"near_miss":1,"near_miss":2'),
        ('"near_miss":1', '"near_miss" :1,"near_miss":2'),
        ('"near_miss":1', '"near_miss":1,"near\\u005fmiss":2'),
        ('"n":1', '"n":1,"n":1'),
        ('"n":1', '"n":NaN'),
        ('"n":1', '"n":1e999'),
        ('"n":1', '"n":"\\ud800"'),
        ('"n":1', '"n":"\\u0000"'),
        ('"n":1', '"n":"\x01"'),
        ('"distance_m":8.25', '"distance_m":-1'),
        ('"distance_m":8.25', '"distance_m":NaN'),
        ('"distance_m":8.25', '"distance_m":1e13'),
        ('"decisions":100', '"decisions":1000000001'),
        ('"decisions":100', '"decisions":-1'),
        ('"decisions":100', '"decisions":true'),
        ('"seq":1,', '"seq":9007199254740993,'),
        ('"seq":1,', '"seq":1,"temperature_max_c":300.5,'),
        ('"seq":1,', '"seq":1,"temperature_max_c":40,"temperature_max_c":41,'),
        ('"seq":1,', '"seq":1,"throttled_s":-1,'),
        ('"stream_id":"s-1"', '"stream_id":"-s"'),
        ('"stream_id":"s-1"', '"stream_id":"s\\n"'),
        ('"kind":"collision"', '"kind":"Collision"'),
        ('"event_id":"ev-1"', '"event_id":""'),
        ("c" * 64, "C" * 64),
        ("c" * 64, "c" * 63),
        ("00:00:00+05:30", "00:00:00"),
        ('"recording_sha256":null', '"recording_sha256":"x"'),
        ('"near_miss":1', ",".join(f'"k{n}":1' for n in range(33))),
        ('"details":{', '"details":{' + "".join(f'"k{n}":1,' for n in range(64))),
        ('"n":1', '"n":' + "[" * 3000 + "]" * 3000),
    ],
)
def test_what_is_refused_is_never_read_quickly(old: str, new: str) -> None:
    body = COMPACT.decode().replace(old, new, 1).encode()
    assert body != COMPACT
    assert read_plain(body) is None
    if '"decisions":true' not in new:  # a lax reader may take it for a number; that is its own affair
        assert strict(body) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seq":1,', '"seq":1,"later":{"a":1},'),
        ('"stream_id"', '"later":1,"stream_id"'),
        ('"distance_m":8.25', '"distance_m":"8.25"'),
        ("s-1", "s\\u002d1"),
        ('"energy_j":null,', ""),
        ('"seq":1,', '"seq":1,"throttled_s":null,'),
    ],
)
def test_what_is_not_plain_is_left_to_the_strict_reader(old: str, new: str) -> None:
    body = COMPACT.decode().replace(old, new, 1).encode()
    assert body != COMPACT
    assert read_plain(body) is None
    assert strict(body) is not None


def test_more_than_a_batch_may_hold_is_left_alone() -> None:
    many = BATCH | {"windows": [WINDOW | {"seq": n} for n in range(1001)]}
    assert read_plain(json.dumps(many, separators=(",", ":")).encode()) is None


def test_no_damage_to_a_body_makes_the_readers_differ() -> None:
    dice = random.Random(11)
    signs = [
        b'"',
        b":",
        b",",
        b"{",
        b"}",
        b" ",
        b"1",
        b"\\",
        b"-",
        b".",
        b"e",
        b"[",
        b"]",
        b"\n",
        b"a",
        b"\xff",
        b"null",
    ]
    quick = 0
    for _ in range(4000):
        body = bytearray(COMPACT)
        for _ in range(dice.choice((1, 1, 2))):
            at = dice.randrange(len(body))
            body[at : at + dice.choice((0, 1, 1, 8))] = dice.choice(signs)
        quick += agree(bytes(body))
    assert quick > 50
