from pathlib import Path

import pytest
from mcap.writer import CompressionType, Writer

from flows.workloads.kit import recordings
from flows.workloads.kit.recordings import read_recording
from flows.workloads.kit.types import WorkloadError


def write(path: Path, payloads: list[bytes], *, compression: CompressionType = CompressionType.ZSTD) -> Path:
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=1 << 16, compression=compression)
        writer.start()
        schema = writer.register_schema("s", "x", b"")
        channel = writer.register_channel("/a", "x", schema)
        for index, payload in enumerate(payloads):
            writer.add_message(channel, len(payloads) - index, payload, 0)
        writer.add_metadata("scenario", {"json": "{}"})
        writer.finish()
    return path


def test_messages_come_in_order_of_time(tmp_path: Path) -> None:
    recording = read_recording(write(tmp_path / "a.mcap", [b"third", b"second", b"first"]))
    assert recording.payloads("/a") == [b"first", b"second", b"third"]
    assert recording.meta("scenario") == {"json": "{}"}


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    recording = read_recording(write(tmp_path / "a.mcap", [b"x"]))
    with pytest.raises(WorkloadError, match=r"a\.mcap: has no messages on /b"):
        recording.payloads("/b")
    with pytest.raises(WorkloadError, match=r"a\.mcap: has no metadata 'trigger'"):
        recording.meta("trigger")


def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "bomb.mcap", [bytes(1 << 20)] * 4)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(recordings, "MAX_DECODED_BYTES", 2 << 20)
    with pytest.raises(WorkloadError, match=r"bomb\.mcap: unpacks to more"):
        read_recording(path)


def test_a_huge_file_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "huge.mcap", [b"x" * 100], compression=CompressionType.NONE)
    monkeypatch.setattr(recordings, "MAX_FILE_BYTES", 50)
    with pytest.raises(WorkloadError, match=r"huge\.mcap: is larger"):
        read_recording(path)


def test_too_many_messages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "MAX_MESSAGES", 5)
    with pytest.raises(WorkloadError, match="more than 5 messages"):
        read_recording(write(tmp_path / "a.mcap", [b"x"] * 6))


def test_a_chunk_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "liar.mcap", [b"y" * 5000])
    data = bytearray(path.read_bytes())
    # A chunk record: opcode 6, length, start and end time, then the uncompressed size.
    at = data.index(b"\x06", data.index(b"python") if b"python" in data else 8)
    while data[at + 1 + 8 + 16 : at + 1 + 8 + 24] == bytes(8):
        at = data.index(b"\x06", at + 1)
    data[at + 1 + 8 + 16 + 3] = 0x7F
    path.write_bytes(data)
    with pytest.raises(WorkloadError, match=r"liar\.mcap"):
        read_recording(path)


@pytest.mark.parametrize("content", [b"", b"\x89MCAP0\r\n", b"<html>not a log</html>", bytes(1000)])
def test_what_is_no_recording_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "junk.mcap").write_bytes(content)
    with pytest.raises(WorkloadError, match=r"junk\.mcap"):
        read_recording(tmp_path / "junk.mcap")
