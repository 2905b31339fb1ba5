"""A black box in memory that becomes an MCAP file when something happens.

It keeps the last `pre_roll_s` of log time (bounded in bytes too), and a trigger keeps those and the `post_roll_s` after
it. A finished recording is put whole into the outbox, its sidecar last: without a sidecar there is no recording.
Which recordings are uploaded is the agent's decision. Log time is nanoseconds since the epoch.
"""

import contextlib
import io
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from agents.protocol.v1 import LIMITS, RecordingAnnounce, canonical_json, sha256_hex
from agents.sdk.files import read_bounded, write_whole

_PENDING_MAX: Final = 4
_SIDECAR_BYTES: Final = 64 << 10
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class _Channel:
    topic: str
    schema_name: str
    encoding: str
    schema: bytes


@dataclass(frozen=True)
class _Message:
    topic: str
    log_time_ns: int
    payload: bytes


@dataclass
class _Pending:
    """A recording that still waits for its post roll."""

    kind: str
    event_id: str | None
    content_digest: str
    metadata: dict[str, dict[str, str]]
    closes_at_ns: int
    size: int
    messages: list[_Message] = field(default_factory=list)


class Recorder:
    """Not thread-safe: one recorder belongs to one loop of the application."""

    def __init__(
        self,
        outbox: Path,
        about: Mapping[str, str],
        *,
        pre_roll_s: float = 6.0,
        post_roll_s: float = 2.0,
        max_bytes: int = 32 << 20,
        max_outbox_bytes: int = 1 << 30,
        lost: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._outbox = outbox
        self._about = dict(about)
        self._pre_ns, self._post_ns = int(pre_roll_s * 1e9), int(post_roll_s * 1e9)
        self._max_bytes = min(max_bytes, LIMITS["recording_decoded_bytes"] // 2)
        self._max_outbox_bytes = max_outbox_bytes
        self._lost = lost
        self._channels: dict[str, _Channel] = {}
        self._ring: deque[_Message] = deque()
        self._ring_bytes = 0
        self._now_ns = 0
        self._pending: list[_Pending] = []

    def add_channel(self, topic: str, schema_name: str, encoding: str = "json", schema: bytes | None = None) -> None:
        """Declare a topic; for JSON the schema may stay out and then says only "an object".

        With the encoding `x-le-struct` it is the layout of the messages, by which the console draws them
        (docs/explanation/recordings.md).
        """
        fallback = b'{"type":"object"}' if encoding == "json" else b""
        self._channels[topic] = _Channel(topic, schema_name, encoding, fallback if schema is None else schema)

    def write(self, topic: str, log_time_ns: int, payload: bytes) -> None:
        if topic not in self._channels:
            raise KeyError(f"no channel for {topic!r}; call add_channel first")
        message = _Message(topic, log_time_ns, bytes(payload))
        self._now_ns = max(self._now_ns, log_time_ns)
        self._close_due()
        self._ring.append(message)
        self._ring_bytes += len(message.payload)
        for pending in self._pending:
            pending.messages.append(message)
            pending.size += len(message.payload)
        self._trim()

    def trigger(
        self,
        kind: str,
        event_id: str | None,
        content_digest: str,
        metadata: Mapping[str, Mapping[str, str]] | None = None,
    ) -> bool:
        """Keep what is in memory and what comes in the post roll; False if too many recordings are already open."""
        if len(self._pending) >= _PENDING_MAX:
            self._lost(1)
            return False
        extra = {name: dict(values) for name, values in (metadata or {}).items()}
        closes = self._now_ns + self._post_ns
        self._pending.append(
            _Pending(kind, event_id, content_digest, extra, closes, self._ring_bytes, list(self._ring))
        )
        return True

    def flush(self) -> list[str]:
        """Close every open recording now; return the sha256 of each."""
        pending, self._pending = self._pending, []
        return [digest for one in pending if (digest := self._finish(one)) is not None]

    def reset(self) -> None:
        """Close open recordings and forget what is in memory: another drive begins."""
        self.flush()
        self._ring.clear()
        self._ring_bytes, self._now_ns = 0, 0

    def _close_due(self) -> None:
        due = [one for one in self._pending if self._now_ns > one.closes_at_ns or one.size > self._max_bytes]
        for one in due:
            self._pending.remove(one)
            self._finish(one)

    def _trim(self) -> None:
        oldest = self._now_ns - self._pre_ns
        while self._ring and (self._ring[0].log_time_ns < oldest or self._ring_bytes > self._max_bytes):
            self._ring_bytes -= len(self._ring.popleft().payload)

    def _finish(self, one: _Pending) -> str | None:
        if not one.messages:
            return None
        data = self._encoded(one)
        if len(data) > LIMITS["recording_bytes"] or not self._has_room(len(data), of_event=one.event_id is not None):
            self._lost(1)
            return None
        digest = sha256_hex(data)
        times = [message.log_time_ns for message in one.messages]
        announce = RecordingAnnounce(
            sha256=digest,
            size_bytes=len(data),
            trigger=one.kind,
            event_id=one.event_id,
            content_digest=one.content_digest,
            started_at=_at(min(times)),
            ended_at=_at(max(times)),
        )
        write_whole(self._outbox / f"{digest}.mcap", data, durable=True)
        write_whole(self._outbox / f"{digest}.json", canonical_json(announce.model_dump(mode="json")), durable=True)
        return digest

    def _has_room(self, size: int, *, of_event: bool) -> bool:
        """Tell whether a recording fits; one of an event displaces the oldest of those that show none."""
        self._outbox.mkdir(parents=True, exist_ok=True)
        kept = _kept(self._outbox)
        over = sum(file.st_size for file in kept.values()) + size - self._max_outbox_bytes
        if over > 0 and of_event:
            for path in sorted(kept, key=lambda each: kept[each].st_mtime):
                if over <= 0:
                    break
                if not _shows_event(path):
                    path.with_suffix(".json").unlink(missing_ok=True)
                    path.unlink(missing_ok=True)
                    over -= kept[path].st_size
                    self._lost(1)
        return over <= 0

    def _encoded(self, one: _Pending) -> bytes:
        # The agent imports this package too and records nothing: its megabytes are for who does.
        from mcap.writer import CompressionType, Writer  # noqa: PLC0415 - see above

        stream = io.BytesIO()
        # mcap ships no types.
        writer: Any = Writer(stream, chunk_size=1 << 18, compression=CompressionType.ZSTD)
        writer.start(profile="", library="fleetloop")
        channels = {topic: _register(writer, channel) for topic, channel in self._channels.items()}
        for sequence, message in enumerate(sorted(one.messages, key=lambda each: each.log_time_ns)):
            writer.add_message(
                channels[message.topic], message.log_time_ns, message.payload, message.log_time_ns, sequence
            )
        for name, values in {"fleetloop": self._described(one), **one.metadata}.items():
            writer.add_metadata(name, values)
        writer.finish()
        return stream.getvalue()

    def _described(self, one: _Pending) -> dict[str, str]:
        return {
            **self._about,
            "trigger": one.kind,
            "event_id": one.event_id or "",
            "content_digest": one.content_digest,
            "triggered_at_ns": str(one.closes_at_ns - self._post_ns),
        }


def _kept(outbox: Path) -> dict[Path, os.stat_result]:
    found = {}
    for path in outbox.glob("*.mcap"):
        with contextlib.suppress(FileNotFoundError):  # the agent has just sent it
            found[path] = path.stat()
    return found


def _shows_event(path: Path) -> bool:
    sidecar = read_bounded(path.with_suffix(".json"), _SIDECAR_BYTES)
    try:
        return RecordingAnnounce.model_validate_json(sidecar or b"").event_id is not None
    except ValueError:
        return True  # one that is being written: not ours to judge


def _register(writer: Any, channel: _Channel) -> int:
    encoding = "jsonschema" if channel.encoding == "json" else channel.encoding
    schema_id = writer.register_schema(channel.schema_name, encoding, channel.schema)
    return int(writer.register_channel(channel.topic, channel.encoding, schema_id))


def _at(log_time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=log_time_ns // 1000)
