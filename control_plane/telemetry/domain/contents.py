"""Picks out of a recording what its own layouts say can be shown, in bounded memory however large the file is."""

import struct
from dataclasses import dataclass, field
from typing import Final

from mcap.opcode import Opcode
from mcap.records import Channel, Metadata, Schema

from control_plane.telemetry.domain.layout import ENCODING, MAX_LAYOUT_BYTES, Layout, Quantity, read_layout, told
from control_plane.telemetry.domain.recording import RecordingError, Walk, refusing, stream

MAX_LAYOUTS: Final = 64
MAX_KEPT, MAX_KEPT_BYTES = 4096, 8 << 20
MAX_METADATA_BYTES: Final = 1 << 20
SCENE, ABOUT = "replay", "fleetloop"  # metadata records: the world and robot; what the recorder says of itself
_ID = struct.Struct("<H")
_LENGTH = struct.Struct("<I")
_MESSAGE = struct.Struct("<HIQQ")


@dataclass
class Kept:
    """The messages of one topic as (log time in ns, payload).

    Whenever there are too many, every second one is forgotten; the last one never is, for that is when it happened.
    """

    topic: str
    layout: Layout
    _rows: list[tuple[int, bytes]] = field(default_factory=list)
    _last: tuple[int, bytes] | None = None
    _seen: int = 0
    _stride: int = 1

    def add(self, log_time_ns: int, payload: memoryview) -> None:
        if len(payload) != self.layout.size:
            raise RecordingError(
                f"a message on {self.topic} has {len(payload)} bytes, its layout says {self.layout.size}"
            )
        row = (log_time_ns, bytes(payload))
        if self._seen % self._stride == 0:
            self._rows.append(row)
            self._last = None
            if len(self._rows) >= min(MAX_KEPT, MAX_KEPT_BYTES // self.layout.size):
                self._last = self._rows[-1]
                self._rows, self._stride = self._rows[::2], self._stride * 2
        else:
            self._last = row
        self._seen += 1

    @property
    def rows(self) -> list[tuple[int, bytes]]:
        """In order of log time."""
        last = [] if self._last is None else [self._last]
        return sorted(self._rows + last, key=lambda row: row[0])


@dataclass
class Contents:
    """What of a recording can be shown: for each quantity the topic that has it, and named metadata."""

    sources: dict[Quantity, Kept] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    binary_topics: int = 0
    _schemas: dict[int, bytes] = field(default_factory=dict)
    _channels: dict[int, Kept | None] = field(default_factory=dict)

    def take(self, opcode: int, content: memoryview) -> None:
        if opcode == Opcode.MESSAGE:
            self._message(content)
        elif opcode == Opcode.SCHEMA:
            self._schema(content)
        elif opcode == Opcode.CHANNEL:
            self._channel(content)
        elif opcode == Opcode.METADATA:
            self._metadata(content)

    def _message(self, content: memoryview) -> None:
        channel, _, log_time_ns, _ = _MESSAGE.unpack_from(content)
        kept = self._channels.get(channel)
        if kept is not None:
            kept.add(log_time_ns, content[_MESSAGE.size :])

    def _schema(self, content: memoryview) -> None:
        if len(content) > MAX_LAYOUT_BYTES + 1024 or _ID.unpack_from(content)[0] in self._schemas:
            return
        schema = Schema.read(stream(content))
        if schema.encoding == ENCODING and schema.data:
            if len(self._schemas) >= MAX_LAYOUTS:
                raise RecordingError(f"it has more than {MAX_LAYOUTS} layouts")
            self._schemas[schema.id] = schema.data

    def _channel(self, content: memoryview) -> None:
        if _ID.unpack_from(content)[0] in self._channels:  # the summary at the end repeats them
            return
        channel = Channel.read(stream(content))
        if channel.message_encoding != ENCODING:
            self._channels[channel.id] = None
            return
        self.binary_topics += 1
        if self.binary_topics > MAX_LAYOUTS:
            raise RecordingError(f"it has more than {MAX_LAYOUTS} binary topics")
        self._channels[channel.id] = self._described(channel) if channel.schema_id in self._schemas else None

    def _described(self, channel: Channel) -> Kept | None:
        topic = channel.topic[:100]
        try:
            layout = read_layout(self._schemas[channel.schema_id])
        except ValueError as error:
            raise RecordingError(f"the layout of {topic} is none: {told(error)}") from error
        twice = sorted(layout.sources.keys() & self.sources.keys())
        if twice:
            raise RecordingError(f"{topic} and another topic both say that they have {', '.join(twice)}")
        kept = Kept(topic, layout)
        self.sources |= dict.fromkeys(layout.sources, kept)
        return kept if layout.sources else None

    def _metadata(self, content: memoryview) -> None:
        (length,) = _LENGTH.unpack_from(content)
        name = bytes(content[_LENGTH.size : _LENGTH.size + min(length, 64)]).decode(errors="replace")
        if name not in (SCENE, ABOUT) or name in self.metadata:
            return
        if len(content) > MAX_METADATA_BYTES:
            raise RecordingError(f"its metadata {name} has more than {MAX_METADATA_BYTES} bytes")
        self.metadata[name] = dict(Metadata.read(stream(content)).metadata)


def contents_of(data: bytes, max_decoded_bytes: int) -> Contents:
    """Go through a recording once.

    Raises:
        RecordingError: as `inspect_recording`, or it describes itself wrongly.
    """
    contents, walk = Contents(), Walk(max_decoded_bytes)
    with refusing():
        for opcode, content in walk.records(data):
            contents.take(opcode, content)
    return contents
