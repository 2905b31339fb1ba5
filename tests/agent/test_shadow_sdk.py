"""The application's side of a shadow: cheap, bounded, and never in its way."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from agents.sdk.shadow import SampleReader, ShadowFiles, ShadowTap

DIGEST = "a" * 64
X = np.arange(3, dtype=np.float32).reshape(1, 3)


def put(tap: ShadowTap, number: float = 0.0) -> bool:
    return tap.sample(DIGEST, {"x": X}, {"y": X * 2, "n": np.array([number])[:0].astype(np.int64)}, number, ["stuck"])


@pytest.fixture
def files(tmp_path: Path) -> ShadowFiles:
    return ShadowFiles(tmp_path)


def test_nothing_is_written_while_nobody_asks(tmp_path: Path, files: ShadowFiles) -> None:
    tap = ShadowTap(tmp_path)
    assert not any(put(tap) for _ in range(100))
    assert list(tmp_path.iterdir()) == []
    assert tap.dropped == 0


def test_what_is_sampled_is_read_as_it_was(tmp_path: Path, files: ShadowFiles) -> None:
    session, tap = files.ask(), ShadowTap(tmp_path, max_hz=1000)
    assert put(tap, 1.5)
    reader = SampleReader(files.ring, session)
    (sample,) = reader.read()
    assert (sample.content_digest, sample.latency_ms, sample.events) == (DIGEST, 1.5, ("stuck",))
    assert sample.inputs["x"].shape == (1, 3)
    assert np.frombuffer(sample.outputs["y"].data, np.float32).tolist() == [0, 2, 4]
    assert (sample.outputs["n"].dtype, sample.outputs["n"].shape) == ("int64", (0,))
    assert reader.read() == []


def test_no_more_samples_than_asked_for(tmp_path: Path, files: ShadowFiles) -> None:
    files.ask()
    tap, until_s, taken = ShadowTap(tmp_path, max_hz=50), time.monotonic() + 0.5, 0
    while time.monotonic() < until_s:
        taken += put(tap)
    assert 10 <= taken <= 26


def test_the_ring_has_one_size_and_a_late_reader_loses_the_oldest(tmp_path: Path, files: ShadowFiles) -> None:
    session, tap = files.ask(), ShadowTap(tmp_path, max_hz=1000, ring_bytes=1 << 14)
    reader = SampleReader(files.ring, session)
    sizes = set()
    for number in range(60):
        tap._due_s = 0.0
        assert put(tap, number)
        sizes.add(files.ring.stat().st_size)
    assert len(sizes) == 1
    assert max(sizes) <= 1 << 14
    read = [sample.latency_ms for sample in reader.read()]
    assert read == list(range(60 - len(read), 60))
    assert reader.lost == 60 - len(read)


def test_a_record_that_is_being_overwritten_is_skipped(tmp_path: Path, files: ShadowFiles) -> None:
    session, tap = files.ask(), ShadowTap(tmp_path, max_hz=1000)
    for number in range(3):
        tap._due_s = 0.0
        put(tap, number)
    data = bytearray(files.ring.read_bytes())
    at = data.index(b'"l":1')
    data[at + 4] = ord("7")
    files.ring.write_bytes(data)
    reader = SampleReader(files.ring, session)
    assert [sample.latency_ms for sample in reader.read()] == [0, 2]
    assert reader.lost == 1


@pytest.mark.parametrize("data", [b"", b"x" * 10, bytes(200), os.urandom(300)])
def test_a_ring_of_nonsense_has_nothing_to_read(tmp_path: Path, files: ShadowFiles, data: bytes) -> None:
    files.ring.write_bytes(data)
    assert SampleReader(files.ring, "0" * 32).read() == []


def test_an_application_that_starts_again_is_followed(tmp_path: Path, files: ShadowFiles) -> None:
    session = files.ask()
    reader = SampleReader(files.ring, session)
    for number in (1.0, 2.0):
        tap = ShadowTap(tmp_path)
        put(tap, number)
        assert [sample.latency_ms for sample in reader.read()] == [number]
        tap.close()


def test_another_session_has_nothing_to_do_with_this_one(tmp_path: Path, files: ShadowFiles) -> None:
    old, tap = files.ask(), ShadowTap(tmp_path, max_hz=1000)
    put(tap)
    new = files.ask()
    assert SampleReader(files.ring, new).read() == []
    tap._checked_s = tap._due_s = float("-inf")
    put(tap)
    assert len(SampleReader(files.ring, new).read()) == 1
    assert SampleReader(files.ring, old).read() == []


def test_a_wish_of_a_dead_agent_is_not_heeded(tmp_path: Path, files: ShadowFiles) -> None:
    files.ask()
    os.utime(files.wish, (time.time() - 60, time.time() - 60))
    assert not put(ShadowTap(tmp_path))
    files.renew()
    assert put(ShadowTap(tmp_path))
    files.end()
    assert not put(ShadowTap(tmp_path))


@pytest.mark.parametrize("wish", [b"", b"{", b"[]", b'{"session":7}', b'{"session":"../../x"}', b"x" * 9000])
def test_a_wish_that_cannot_be_read_is_none(tmp_path: Path, files: ShadowFiles, wish: bytes) -> None:
    files.wish.write_bytes(wish)
    assert files.wanted() is None


def test_an_error_never_reaches_the_loop(tmp_path: Path, files: ShadowFiles) -> None:
    files.ask()
    tap = ShadowTap(tmp_path)
    assert tap.sample(DIGEST, {"x": "no array"}, {}, 1.0) is False
    assert (tap.dropped, put(tap)) == (1, False)  # it leaves it for a while
    tap._due_s = 0.0
    assert tap.sample(DIGEST, {"x": np.zeros(3, np.complex64)}, {}, 1.0) is False
    tap._due_s = 0.0
    assert tap.sample(DIGEST, {"x": np.zeros(8 << 20, np.float32)}, {}, 1.0) is False  # larger than any ring
    assert tap.dropped == 3
    assert not files.ring.exists()


def test_a_full_disk_is_found_out_before_the_first_sample(
    tmp_path: Path, files: ShadowFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int, _offset: int, _length: int) -> None:
        raise OSError(28, "No space left on device")

    files.ask()
    monkeypatch.setattr(os, "posix_fallocate", full)
    tap = ShadowTap(tmp_path)
    assert (put(tap), tap.dropped) == (False, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"shadow.json"}
