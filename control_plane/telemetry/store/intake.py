"""Telemetry in: streams, windows and events of many batches at once."""

import json
from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Any, NamedTuple

from control_plane.kit.db import Row, Session, copy_bytes, copy_rows, rows
from control_plane.telemetry.store.binary import WINDOW_COLUMNS

EVENT_COLUMNS = (
    "device_id",
    "stream_id",
    "received_at",
    "site",
    "device_class",
    "seq",
    "event_id",
    "kind",
    "content_digest",
    "at",
    "details",
)
StreamKey = tuple[str, str]
"""Device and stream."""


async def standing(session: Session, device_ids: Sequence[str]) -> dict[str, Row]:
    """Return what their rows say of devices, where `lock_streams` leaves one out: why it is not heard."""
    found = await rows(
        session,
        """select id, state, key_sha256,
               exists (select 1 from fleet_denied_key k where k.key_sha256 = d.key_sha256) as denied
           from fleet_device d where id = any(cast(:ids as text[]))""",
        ids=list(device_ids),
    )
    return {line["id"]: line for line in found}


class Held(NamedTuple):
    """What is known of a stream: how far it has been taken over, and what its device has said it runs."""

    acknowledged_seq: int
    said: frozenset[str]


async def lock_streams(session: Session, streams: Mapping[StreamKey, str]) -> tuple[dict[StreamKey, Held], int]:
    """Take the rows of streams for this transaction; return what is known of each, and the panel's halvings.

    `streams`: the sha256 of the key by which each one's device was heard. A stream is left out if its device's row says
    that it is not to be heard, or has another key. Rows are taken in order, so that two processes that take the same
    ones wait for each other and not in a ring.
    """
    found = await rows(
        session,
        """insert into telemetry_stream (device_id, stream_id, acknowledged_seq)
           select device, stream, -1
           from unnest(cast(:devices as text[]), cast(:streams as text[]), cast(:keys as text[]))
               as n (device, stream, key) join fleet_device d on d.id = n.device
           where d.state = 'active' and d.key_sha256 = n.key
               and not exists (select 1 from fleet_denied_key k where k.key_sha256 = n.key)
           order by device, stream
           on conflict (device_id, stream_id) do update set device_id = excluded.device_id
           returning device_id, stream_id, acknowledged_seq,
               (select array_agg(content_digest) from telemetry_attested a
                where a.device_id = telemetry_stream.device_id) as said,
               (select halvings from telemetry_panel where name = 'devices') as halvings""",
        devices=[device_id for device_id, _ in streams],
        streams=[stream_id for _, stream_id in streams],
        keys=list(streams.values()),
    )
    held = {
        (line["device_id"], line["stream_id"]): Held(line["acknowledged_seq"], frozenset(line["said"] or ()))
        for line in found
    }
    return held, int(found[0]["halvings"]) if found else 0


async def copy_windows(session: Session, chunks: AsyncIterable[bytes]) -> None:
    await copy_bytes(session, "telemetry_window", WINDOW_COLUMNS, chunks)


async def copy_events(session: Session, records: Sequence[tuple[Any, ...]]) -> None:
    plain = [(*values, json.dumps(details)) for *values, details in records]
    await copy_rows(session, "telemetry_event", EVENT_COLUMNS, plain)
