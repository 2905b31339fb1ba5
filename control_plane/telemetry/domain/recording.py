"""Is this an MCAP file that can be read whole, within bounds?

The format is https://mcap.dev/spec. Every chunk is decompressed against its declared size and the whole against a
budget of bytes and of records, so that a small file can neither unfold nor be walked without end. Messages are
counted, not interpreted.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk

MAGIC = b"\x89MCAP0\r\n"
HEAD = struct.Struct("<BQ")
UNKNOWN_SIZE = -1
UNREADABLE = (McapError, zstandard.ZstdError, EOFError, UnicodeDecodeError, ValueError, KeyError, struct.error)


class RecordingError(ValueError):
    """The file is not a recording we take; the message says why."""


def inspect_recording(data: bytes, max_decoded_bytes: int, max_records: int = 1_000_000) -> dict[str, Any]:
    """Return {"messages", "decoded_bytes", "topics"} of a sound recording.

    Raises:
        RecordingError: not MCAP, truncated, a compression other than zstd or none, or over a bound.
    """
    if not data.startswith(MAGIC):
        raise RecordingError("this is not an MCAP file")
    if not data.endswith(MAGIC) or len(data) < 2 * len(MAGIC):
        raise RecordingError("this MCAP file is truncated: its end is missing")
    count = _Count(max_decoded_bytes, max_records)
    try:
        count.file(memoryview(data)[len(MAGIC) : -len(MAGIC)])
    except UNREADABLE as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(f"this MCAP file cannot be read: {error}") from error
    return {"messages": count.messages, "decoded_bytes": count.decoded, "topics": sorted(count.topics)[:100]}


class _Count:
    """What has been seen so far, and how much more may be."""

    def __init__(self, max_bytes: int, max_records: int) -> None:
        self.max_bytes = max_bytes
        self.max_records = max_records
        self.messages = self.decoded = self.records = 0
        self.topics: set[str] = set()

    def file(self, data: memoryview) -> None:
        last = None
        for opcode, content in self._records(data):
            last = opcode
            if opcode == Opcode.CHUNK:
                self._chunk(Chunk.read(_stream(content)))
            else:
                self._record(opcode, content)
                self._decode(len(content))
        if last != Opcode.FOOTER:
            raise RecordingError("this MCAP file has no footer")

    def _records(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        place = 0
        while place < len(data):
            opcode, length = HEAD.unpack_from(data, place)
            place += HEAD.size
            if length > len(data) - place:
                raise RecordingError("a record of this MCAP file is cut off")
            self.records += 1
            if self.records > self.max_records:
                raise RecordingError(f"it has more than {self.max_records} records")
            yield opcode, data[place : place + length]
            place += length

    def _record(self, opcode: int, content: memoryview) -> None:
        if opcode == Opcode.MESSAGE:
            self.messages += 1
        elif opcode == Opcode.CHANNEL:
            self.topics.add(Channel.read(_stream(content)).topic)

    def _chunk(self, chunk: Chunk) -> None:
        self._decode(chunk.uncompressed_size)
        data = _unfold(chunk)
        if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
            raise RecordingError("a chunk has another checksum than it says")
        for opcode, content in self._records(memoryview(data)):
            self._record(opcode, content)

    def _decode(self, size: int) -> None:
        self.decoded += size
        if self.decoded > self.max_bytes:
            raise RecordingError(f"it unfolds to more than {self.max_bytes} bytes")


def _stream(content: memoryview) -> ReadDataStream:
    return ReadDataStream(io.BytesIO(content))


def _unfold(chunk: Chunk) -> bytes:
    """Return a chunk's records, having unfolded at most one byte more than it declares."""
    size = chunk.uncompressed_size
    if chunk.compression == "":
        data = chunk.data
    elif chunk.compression == "zstd":
        if zstandard.frame_content_size(chunk.data) not in (UNKNOWN_SIZE, size):
            raise RecordingError("a chunk's frame declares another size than the chunk")
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(chunk.data)) as stream:
            data = stream.read(size + 1)
    else:
        raise RecordingError(f"compression {chunk.compression!r} is not taken; use zstd")
    if len(data) != size:
        raise RecordingError(f"a chunk unfolds to {'more' if len(data) > size else 'less'} than it declares")
    return data
