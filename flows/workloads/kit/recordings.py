"""Owns reading recordings (MCAP) that come from devices: hostile until read, and bounded while being read."""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, Footer, McapRecord, Message, Metadata
from mcap.stream_reader import StreamReader, breakup_chunk

from flows.workloads.kit.types import WorkloadError

MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_DECODED_BYTES = 64 * 1024 * 1024
MAX_MESSAGES = 200_000
_MAX_RECORD_BYTES = 16 * 1024 * 1024

T = TypeVar("T")


@dataclass
class Recording:
    """The messages of one log by topic in order of log time, and its named metadata records."""

    name: str
    messages: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)

    def payloads(self, topic: str) -> list[bytes]:
        if topic not in self.messages:
            raise WorkloadError(f"{self.name}: has no messages on {topic}")
        return [payload for _, payload in self.messages[topic]]

    def meta(self, name: str) -> dict[str, str]:
        if name not in self.metadata:
            raise WorkloadError(f"{self.name}: has no metadata {name!r}")
        return self.metadata[name]


def read_recording(path: Path) -> Recording:
    """Read one recording whole. Whatever is wrong with the file becomes one error that names it."""
    try:
        return _read(path)
    except WorkloadError:
        raise
    except (OSError, McapError, zstandard.ZstdError, ValueError, EOFError, IndexError) as error:
        raise WorkloadError(f"{path.name}: not a whole MCAP file: {type(error).__name__} {error}") from error
    except Exception as error:  # struct.error, UnicodeDecodeError, ...: the library raises what its parser meets
        raise WorkloadError(f"{path.name}: malformed MCAP: {type(error).__name__} {error}") from error


def read_all(paths: Sequence[Path], read: Callable[[Path], T]) -> tuple[list[T], list[str]]:
    """Read what can be read; one bad upload must not stop the loop. Also gives what was wrong with the others."""
    found, problems = list[T](), list[str]()
    for path in paths:
        try:
            found.append(read(path))
        except WorkloadError as error:
            problems.append(str(error))
            sys.stderr.write(f"left out: {error}\n")
    if paths and not found:
        raise WorkloadError(f"none of {len(paths)} recordings can be read; the first: {problems[0]}")
    return found, problems


def _read(path: Path) -> Recording:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise WorkloadError(f"{path.name}: is larger than {MAX_FILE_BYTES} bytes")
    recording, topics, complete = Recording(path.name), dict[int, str](), False
    messages: defaultdict[str, list[tuple[int, bytes]]] = defaultdict(list)
    count = 0
    for record in _records(path):
        complete = complete or isinstance(record, Footer)
        if isinstance(record, Channel):
            topics[record.id] = record.topic
        elif isinstance(record, Metadata):
            recording.metadata[record.name] = dict(record.metadata)
        elif isinstance(record, Message):
            count += 1
            if count > MAX_MESSAGES:
                raise WorkloadError(f"{path.name}: has more than {MAX_MESSAGES} messages")
            messages[topics[record.channel_id]].append((record.log_time, record.data))
    if not complete:
        raise WorkloadError(f"{path.name}: ends before its footer: it is truncated")
    recording.messages = {topic: sorted(rows, key=lambda row: row[0]) for topic, rows in messages.items()}
    return recording


def _records(path: Path) -> Iterator[McapRecord]:
    decoded = 0
    with path.open("rb") as stream:
        reader = StreamReader(stream, emit_chunks=True, record_size_limit=_MAX_RECORD_BYTES, validate_crcs=True)
        for record in reader.records:
            if not isinstance(record, Chunk):
                yield record
                continue
            decoded += _declared_bytes(record, path)
            if decoded > MAX_DECODED_BYTES:
                raise WorkloadError(f"{path.name}: unpacks to more than {MAX_DECODED_BYTES} bytes")
            yield from breakup_chunk(record, validate_crc=True)


def _declared_bytes(chunk: Chunk, path: Path) -> int:
    """How many bytes the chunk will unpack to, before unpacking it. Its two declarations must agree."""
    if chunk.compression == "":
        return len(chunk.data)
    if chunk.compression != "zstd":
        raise WorkloadError(f"{path.name}: compression {chunk.compression!r} is not used here")
    declared = int(zstandard.frame_content_size(chunk.data))
    if declared not in (-1, chunk.uncompressed_size):
        raise WorkloadError(f"{path.name}: a chunk declares two sizes: {declared} and {chunk.uncompressed_size}")
    return int(chunk.uncompressed_size)
