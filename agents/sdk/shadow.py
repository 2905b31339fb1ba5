"""Samples of what the active model decided, for a candidate that is tried beside it without acting.

    tap = robot.shadow_tap()
    ...                                           # in the loop, after every decision:
    tap.sample(digest, {"scan": scan}, {"cmd": cmd}, latency_ms, events=["hard_brake"])

Until the agent asks for samples that is one comparison, and one `stat` a second. While it asks, at most `max_hz`
samples a second go into a ring file of fixed size with one `pwrite` each: no sync, no lock, and a reader that is late
loses the oldest. An error never reaches the robot's loop; it ends sampling for a while and is counted.
"""

import contextlib
import json
import os
import struct
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agents.protocol.v1 import canonical_json, strict_json
from agents.sdk.files import read_bounded, write_whole

RING_BYTES: Final = 16 << 20
SLOTS_MAX: Final = 2048
_CHECK_S: Final = 1.0
_STALE_S: Final = 30.0
_TROUBLE_S: Final = 5.0
_WANTED_BYTES: Final = 4096
_HEADER: Final = struct.Struct("<8s16sIIQ")
_SLOT: Final = struct.Struct("<QII")
_MAGIC: Final = b"FLSHDW1\x00"
_DTYPES: Final = {"f": "float32", "e": "float16", "q": "int64", "l": "int64", "i": "int32", "B": "uint8", "?": "bool"}


@dataclass(frozen=True)
class Tensor:
    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Sample:
    content_digest: str
    latency_ms: float
    events: tuple[str, ...]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


class ShadowFiles:
    """The wish for samples and the ring, in the directory of signals."""

    def __init__(self, signals: Path) -> None:
        self.wish, self.ring = signals / "shadow.json", signals / "shadow.ring"

    def ask(self) -> str:
        """Ask for samples and return the session they will carry; to be renewed with `renew`."""
        session = uuid.uuid4().hex
        self.wish.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.wish, canonical_json({"session": session}), durable=False)
        return session

    def renew(self) -> None:
        """Say that samples are still wanted: a wish of an agent that died is not heeded for long."""
        with contextlib.suppress(OSError):
            os.utime(self.wish)

    def end(self) -> None:
        self.wish.unlink(missing_ok=True)
        self.ring.unlink(missing_ok=True)

    def wanted(self) -> str | None:
        """Return the session that samples are wanted for now."""
        try:
            if abs(time.time() - self.wish.stat().st_mtime) > _STALE_S:
                return None
            value = strict_json(read_bounded(self.wish, _WANTED_BYTES) or b"{}", _WANTED_BYTES)
            session = value.get("session")
            return uuid.UUID(hex=session).hex if isinstance(session, str) else None
        except (OSError, ValueError, AttributeError):
            return None


class ShadowTap:
    """The robot application's side; use it from one thread. `dropped` counts samples that did not fit or failed."""

    def __init__(self, signals: Path, max_hz: float = 20.0, ring_bytes: int = RING_BYTES) -> None:
        if not 0 < max_hz <= 1000 or not 1 << 12 <= ring_bytes <= 1 << 30:
            raise ValueError("max_hz is at most 1000, a ring has between 4 KiB and 1 GiB")
        self._files, self._period_s, self._ring_bytes = ShadowFiles(signals), 1 / max_hz, ring_bytes
        self._due_s = self._checked_s = float("-inf")
        self._session: str | None = None
        self._ring: _RingWriter | None = None
        self.dropped = 0

    def sample(
        self,
        content_digest: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        latency_ms: float,
        events: Sequence[str] = (),
    ) -> bool:
        """Leave one decision for the shadow if it is wanted and due; arrays are anything with the buffer protocol."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return False
        try:
            return self._sampled(now_s, content_digest, inputs, outputs, latency_ms, events)
        except (OSError, ValueError, TypeError, KeyError):
            self.dropped += 1
            self.close()
            self._due_s = now_s + _TROUBLE_S
            return False

    def close(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _sampled(
        self,
        now_s: float,
        content_digest: str,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        latency_ms: float,
        events: Sequence[str],
    ) -> bool:
        if now_s - self._checked_s >= _CHECK_S:
            self._checked_s, session = now_s, self._files.wanted()
            if session != self._session:
                self.close()
                self._session = session
        if self._session is None:
            self._due_s = now_s + _CHECK_S
            return False
        record = _packed(content_digest, inputs, outputs, latency_ms, events)
        if self._ring is None:
            self._ring = _RingWriter(self._files.ring, self._session, len(record), self._ring_bytes)
        self._due_s = now_s + self._period_s
        if self._ring.put(record):
            return True
        self.dropped += 1
        return False


class SampleReader:
    """The candidate's side: samples of one session in order; `lost` counts those that were overwritten unread."""

    def __init__(self, ring: Path, session: str) -> None:
        self._path, self._session = ring, session
        self._handle: int | None = None
        self._next = 0
        self.lost = 0

    def read(self, at_most: int = 256) -> list[Sample]:
        """Return what came since the last time; a ring that is not there, or another session's, has nothing."""
        try:
            return list(self._samples(at_most))
        except (OSError, struct.error):
            self.close()
            return []

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _samples(self, at_most: int) -> Iterator[Sample]:
        if self._handle is None or os.fstat(self._handle).st_ino != self._path.stat().st_ino:
            # Not there yet, or the application started again with a new ring.
            self.close()
            self._handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            self._next = 0
        magic, session, slot_bytes, slots, written = _HEADER.unpack(os.pread(self._handle, _HEADER.size, 0))
        if magic != _MAGIC or session.hex() != self._session or not 0 < slots <= SLOTS_MAX or slot_bytes > 1 << 30:
            self.close()
            return
        oldest = max(0, written - slots + 1)
        self.lost += max(0, oldest - self._next)
        self._next = max(self._next, oldest)
        for _ in range(min(at_most, written - self._next)):
            place = _HEADER.size + (self._next % slots) * slot_bytes
            found = _unpacked(os.pread(self._handle, slot_bytes, place), self._next)
            self._next += 1
            if found is None:
                self.lost += 1
            else:
                yield found


class _RingWriter:
    def __init__(self, path: Path, session: str, record_bytes: int, ring_bytes: int) -> None:
        # Later samples have the same tensors; only their events differ.
        self._slot_bytes = record_bytes + _SLOT.size + 512
        self._slots = min(SLOTS_MAX, (ring_bytes - _HEADER.size) // self._slot_bytes)
        if self._slots < 4:
            raise ValueError("a sample is too large for the ring")
        self._session, self._written = bytes.fromhex(session), 0
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        self._handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            # Space is taken now, so that no later write can find the disk full.
            os.posix_fallocate(self._handle, 0, _HEADER.size + self._slots * self._slot_bytes)
            self._head()
            temporary.replace(path)
        except BaseException:
            self.close()
            temporary.unlink(missing_ok=True)
            raise

    def put(self, record: bytes) -> bool:
        if len(record) + _SLOT.size > self._slot_bytes:
            return False
        head = _SLOT.pack(self._written, len(record), zlib.crc32(record))
        os.pwrite(self._handle, head + record, _HEADER.size + (self._written % self._slots) * self._slot_bytes)
        self._written += 1
        self._head()
        return True

    def close(self) -> None:
        os.close(self._handle)

    def _head(self) -> None:
        os.pwrite(self._handle, _HEADER.pack(_MAGIC, self._session, self._slot_bytes, self._slots, self._written), 0)


def _packed(
    content_digest: str,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    latency_ms: float,
    events: Sequence[str],
) -> bytes:
    tensors, blobs = [], []
    for side, values in (("i", inputs), ("o", outputs)):
        for name, value in values.items():
            view = memoryview(value)
            tensors.append([side, name, _DTYPES[view.format], list(view.shape or ())])
            blobs.append(view.tobytes())
    about = {"d": content_digest, "l": latency_ms, "e": [str(each)[:40] for each in events[:8]], "t": tensors}
    head = json.dumps(about, separators=(",", ":")).encode()
    return b"".join([len(head).to_bytes(4, "little"), head, *blobs])


def _unpacked(slot: bytes, seq: int) -> Sample | None:
    """Return the record of a slot; None if it was being overwritten, or is no record."""
    number, length, checksum = _SLOT.unpack_from(slot)
    record = slot[_SLOT.size : _SLOT.size + length]
    if number != seq or len(record) != length or zlib.crc32(record) != checksum:
        return None
    try:
        size = int.from_bytes(record[:4], "little")
        about, at = json.loads(record[4 : 4 + size]), 4 + size
        sides: dict[str, dict[str, Tensor]] = {"i": {}, "o": {}}
        for side, name, dtype, shape in about["t"]:
            whole = _ITEM_BYTES[dtype]
            for each in shape:
                whole *= int(each)
            sides[side][name] = Tensor(dtype, tuple(shape), record[at : at + whole])
            at += whole
        return Sample(str(about["d"]), float(about["l"]), tuple(about["e"]), sides["i"], sides["o"])
    except (ValueError, KeyError, TypeError):
        return None


_ITEM_BYTES: Final = {"float32": 4, "float16": 2, "int64": 8, "int32": 4, "uint8": 1, "bool": 1}
