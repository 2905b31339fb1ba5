"""Is this an MCAP file that can be read whole, within bounds?

The format is https://mcap.dev/spec. Every chunk is decompressed against its declared size and the whole against a
budget, so that a small file cannot unfold without end. Messages are counted, not interpreted.
"""

import io
from typing import Any

import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, Footer, Message, Metadata
from mcap.stream_reader import MAGIC_SIZE, StreamReader, breakup_chunk

MAGIC = b"\x89MCAP0\r\n"


class RecordingError(ValueError):
    """The file is not a recording we take; the message says why."""


def inspect_recording(data: bytes, max_decoded_bytes: int, max_messages: int = 1_000_000) -> dict[str, Any]:
    """Return {"messages", "decoded_bytes", "topics"} of a sound recording.

    Raises:
        RecordingError: not MCAP, truncated, a compression other than zstd or none, or over a bound.
    """
    if not data.startswith(MAGIC):
        raise RecordingError("this is not an MCAP file")
    if not data.endswith(MAGIC) or len(data) < 2 * MAGIC_SIZE:
        raise RecordingError("this MCAP file is truncated: its end is missing")
    try:
        return _count(data, max_decoded_bytes, max_messages)
    except (McapError, zstandard.ZstdError, EOFError, UnicodeDecodeError, ValueError, KeyError) as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(f"this MCAP file cannot be read: {error}") from error


def _count(data: bytes, budget: int, max_messages: int) -> dict[str, Any]:
    messages, decoded, topics, ended = 0, 0, set[str](), False
    for record in StreamReader(io.BytesIO(data), emit_chunks=True, record_size_limit=len(data)).records:
        if isinstance(record, Chunk):
            decoded += _decoded_size(record, budget - decoded)
            for inner in breakup_chunk(record, validate_crc=True):
                messages += isinstance(inner, Message)
                if isinstance(inner, Channel):
                    topics.add(inner.topic)
        elif isinstance(record, Message):
            messages, decoded = messages + 1, decoded + len(record.data)
        elif isinstance(record, Channel):
            topics.add(record.topic)
        elif isinstance(record, Metadata) and len(record.metadata) > 1000:
            raise RecordingError("a metadata record has over 1000 entries")
        ended = ended or isinstance(record, Footer)
        if decoded > budget or messages > max_messages:
            raise RecordingError(f"it unfolds to more than {budget} bytes or {max_messages} messages")
    if not ended:
        raise RecordingError("this MCAP file has no footer")
    return {"messages": messages, "decoded_bytes": decoded, "topics": sorted(topics)[:100]}


def _decoded_size(chunk: Chunk, budget: int) -> int:
    """Return how many bytes a chunk unfolds to, having unfolded at most one more than it declares."""
    if chunk.uncompressed_size > budget:
        raise RecordingError("a chunk declares more than may be unfolded")
    if chunk.compression == "":
        return len(chunk.data)
    if chunk.compression != "zstd":
        raise RecordingError(f"compression {chunk.compression!r} is not taken; use zstd")
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(chunk.data)) as stream:
        size = 0
        while piece := stream.read(min(1 << 16, chunk.uncompressed_size + 1 - size)):
            size += len(piece)
            if size > chunk.uncompressed_size:
                raise RecordingError("a chunk unfolds to more than it declares")
    return size
