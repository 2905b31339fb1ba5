"""Windows as PostgreSQL's binary COPY takes them.

Packing a row in one call costs a quarter of what the driver's encoder takes field by field, and rows go out while more
are packed. The format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from control_plane.telemetry.domain import Measured

CHUNK_ROWS = 250
HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = struct.pack(">h", -1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_COUNTS = struct.pack(">i", 3) + b"\x01{}"
_RECEIVED = struct.Struct(">iq")
_AMOUNT = struct.Struct(">id")
_NO_AMOUNT = struct.pack(">i", -1)
_HEAT = struct.Struct(">idid")
_NO_HEAT = struct.pack(">ii", -1, -1)
_FIGURES = struct.Struct(">iqiqiqididiqidid")

WINDOW_COLUMNS = (
    "device_id",
    "stream_id",
    "received_at",
    "site",
    "device_class",
    "content_digest",
    "attested",
    "seq",
    "started_at",
    "ended_at",
    "distance_m",
    "duration_s",
    "decisions",
    "latency_p50_ms",
    "latency_p99_ms",
    "energy_j",
    "temperature_max_c",
    "throttled_s",
    "counts",
)
"""In the order of a packed row: what many rows share, then what is of fixed size, then the rest."""


class Window(Measured, Protocol):
    @property
    def seq(self) -> int: ...
    @property
    def started_at(self) -> datetime: ...
    @property
    def latency_p50_ms(self) -> float: ...
    @property
    def latency_p99_ms(self) -> float: ...
    @property
    def temperature_max_c(self) -> float | None: ...
    @property
    def throttled_s(self) -> float | None: ...


class Sender(NamedTuple):
    """What the rows of one batch share."""

    device_id: str
    stream_id: str
    received_at: datetime
    site: str
    device_class: str


async def packed(batches: Iterable[tuple[Sender, Sequence[Window], Collection[str]]]) -> AsyncIterator[bytes]:
    """Give a whole COPY in chunks, letting each leave before the next is packed.

    Each batch: its sender, its windows, and the contents that its device has not said it runs.
    """
    yield HEADER
    for sender, windows, unattested in batches:
        for start in range(0, len(windows), CHUNK_ROWS):
            yield _rows(sender, windows[start : start + CHUNK_ROWS], unattested)
            await asyncio.sleep(0)
    yield TRAILER


def _rows(sender: Sender, windows: Sequence[Window], unattested: Collection[str]) -> bytes:
    """Pack rows; all in one loop, for a call for each part would cost as much as the part."""
    heads: dict[str, bytes] = {}
    parts: list[bytes] = []
    for window in windows:
        content, energy_j = window.content_digest, window.energy_j
        head = heads.get(content)
        if head is None:
            head = heads[content] = _head(sender, content) + struct.pack(">i?", 1, content not in unattested)
        figures = _FIGURES.pack(
            *(8, window.seq),
            *(8, (window.started_at - _EPOCH) // _MICROSECOND),
            *(8, (window.ended_at - _EPOCH) // _MICROSECOND),
            *(8, window.distance_m),
            *(8, window.duration_s),
            *(8, window.decisions),
            *(8, window.latency_p50_ms),
            *(8, window.latency_p99_ms),
        )
        energy = _NO_AMOUNT if energy_j is None else _AMOUNT.pack(8, energy_j)
        heat = _NO_HEAT
        if window.temperature_max_c is not None or window.throttled_s is not None:
            heat = _heat(window.temperature_max_c, window.throttled_s)
        parts += (head, figures, energy, heat, _counts(window.counts) if window.counts else _NO_COUNTS)
    return b"".join(parts)


def _head(sender: Sender, content_digest: str) -> bytes:
    texts = [
        _text(sender.device_id),
        _text(sender.stream_id),
        _RECEIVED.pack(8, (sender.received_at - _EPOCH) // _MICROSECOND),
    ]
    texts += [_text(value) for value in (sender.site, sender.device_class, content_digest)]
    return struct.pack(">h", len(WINDOW_COLUMNS)) + b"".join(texts)


def _heat(temperature_max_c: float | None, throttled_s: float | None) -> bytes:
    if temperature_max_c is not None and throttled_s is not None:
        return _HEAT.pack(8, temperature_max_c, 8, throttled_s)
    values = (temperature_max_c, throttled_s)
    return b"".join([_NO_AMOUNT if value is None else _AMOUNT.pack(8, value) for value in values])


def _counts(counts: Mapping[str, int]) -> bytes:
    return _text("\x01" + json.dumps(counts))  # 1 is the version of jsonb's binary form


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">i", len(data)) + data
