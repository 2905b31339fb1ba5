"""Is this an MCAP file that can be read whole, within bounds?

The format is https://mcap.dev/spec. Every chunk is decompressed against its declared size and the whole against a
budget of bytes and of records, so that a small file can neither unfold nor be walked without end. Here messages are
counted, not interpreted; `replay` interprets them.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk

MAGIC = b"\x89MCAP0\r\n"
HEAD = struct.Struct("<BQ")
UNKNOWN_SIZE = -1
MAX_RECORDS = 1_000_000
UNREADABLE = (McapError, zstandard.ZstdError, EOFError, ValueError, OverflowError, KeyError, struct.error)


class RecordingError(ValueError):
    """The file is not a recording we take; the message says why."""


def inspect_recording(data: bytes, max_decoded_bytes: int, max_records: int = MAX_RECORDS) -> dict[str, Any]:
    """Return {"messages", "decoded_bytes", "topics"} of a sound recording.

    Raises:
        RecordingError: not MCAP, truncated, a compression other than zstd or none, or over a bound.
    """
    messages, topics = 0, set[str]()
    walk = Walk(max_decoded_bytes, max_records)
    with refusing():
        for opcode, content in walk.records(data):
            if opcode == Opcode.MESSAGE:
                messages += 1
            elif opcode == Opcode.CHANNEL:
                topics.add(Channel.read(stream(content)).topic)
    return {"messages": messages, "decoded_bytes": walk.decoded, "topics": sorted(topics)[:100]}


@contextmanager
def refusing() -> Iterator[None]:
    """Turn whatever reading a file raises into a `RecordingError`."""
    try:
        yield
    except RecordingError:
        raise
    except UNREADABLE as error:
        raise RecordingError(f"this MCAP file cannot be read: {error}") from error


class Walk:
    """Goes through a file once; knows what has been unfolded so far and how much more may be."""

    def __init__(self, max_bytes: int, max_records: int = MAX_RECORDS) -> None:
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._records = self.decoded = 0

    def records(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """Yield every record's opcode and content, those inside chunks in their place; use it within `refusing`."""
        if not data.startswith(MAGIC):
            raise RecordingError("this is not an MCAP file")
        if not data.endswith(MAGIC) or len(data) < 2 * len(MAGIC):
            raise RecordingError("this MCAP file is truncated: its end is missing")
        last = None
        for opcode, content in self._split(memoryview(data)[len(MAGIC) : -len(MAGIC)]):
            last = opcode
            if opcode == Opcode.CHUNK:
                yield from self._chunk(Chunk.read(stream(content)))
            else:
                yield opcode, content
                self._decode(len(content))
        if last != Opcode.FOOTER:
            raise RecordingError("this MCAP file has no footer")

    def _split(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        place = 0
        while place < len(data):
            opcode, length = HEAD.unpack_from(data, place)
            place += HEAD.size
            if length > len(data) - place:
                raise RecordingError("a record of this MCAP file is cut off")
            self._records += 1
            if self._records > self._max_records:
                raise RecordingError(f"it has more than {self._max_records} records")
            yield opcode, data[place : place + length]
            place += length

    def _chunk(self, chunk: Chunk) -> Iterator[tuple[int, memoryview]]:
        self._decode(chunk.uncompressed_size)
        data = _unfold(chunk)
        if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
            raise RecordingError("a chunk has another checksum than it says")
        yield from self._split(memoryview(data))

    def _decode(self, size: int) -> None:
        self.decoded += size
        if self.decoded > self._max_bytes:
            raise RecordingError(f"it unfolds to more than {self._max_bytes} bytes")


def stream(content: memoryview) -> ReadDataStream:
    """Give a record's content to mcap's own readers."""
    return ReadDataStream(io.BytesIO(content))


def _unfold(chunk: Chunk) -> bytes:
    """Return a chunk's records, having unfolded at most one byte more than it declares."""
    size = chunk.uncompressed_size
    if chunk.compression == "":
        data = chunk.data
    elif chunk.compression == "zstd":
        if zstandard.frame_content_size(chunk.data) not in (UNKNOWN_SIZE, size):
            raise RecordingError("a chunk's frame declares another size than the chunk")
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(chunk.data)) as unfolded:
            data = unfolded.read(size + 1)
    else:
        raise RecordingError(f"compression {chunk.compression!r} is not taken; use zstd")
    if len(data) != size:
        raise RecordingError(f"a chunk unfolds to {'more' if len(data) > size else 'less'} than it declares")
    return data
