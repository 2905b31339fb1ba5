import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader
from pydantic import ValidationError

from agents.protocol.v1 import LIMITS, RecordingAnnounce
from agents.sdk import Event, NotEnrolledError, Recorder, Robot, StateDir, Window
from agents.sdk.signals import Signals

DIGEST = "c" * 64
START_NS = 1_790_000_000 * 10**9
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    device = {"device_id": "d-1", "site": "hall", "device_class": "test", "labels": {"line": "3"}}
    (tmp_path / "device.json").write_text(json.dumps(device))
    return Robot(tmp_path)


def drive(recorder: Recorder, first: int, last: int, payload: bytes = b'{"v":1}') -> None:
    for tenth in range(first, last):
        recorder.write("/scan", START_NS + tenth * 10**8, payload)


def read(path: Path) -> tuple[list[int], dict[str, dict[str, str]]]:
    with path.open("rb") as file:
        reader = make_reader(file)
        times = [message.log_time for _, _, message in reader.iter_messages()]
        return times, {each.name: each.metadata for each in reader.iter_metadata()}


def test_a_robot_without_enrolment_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotEnrolledError, match="fleetloop-agent enrol"):
        Robot(tmp_path)


def test_a_robot_knows_its_device(robot: Robot) -> None:
    assert (robot.device_id, robot.site, robot.device_class, robot.labels) == ("d-1", "hall", "test", {"line": "3"})


def test_the_active_model_is_what_the_link_says(robot: Robot, tmp_path: Path) -> None:
    assert robot.active_model() is None
    (tmp_path / "active").symlink_to(f"slots/b/9.{DIGEST}")
    model = robot.active_model()
    assert model is not None
    assert (model.content_digest, model.release_counter) == (DIGEST, 9)
    assert model.path == tmp_path / "slots" / "b" / f"9.{DIGEST}"


@pytest.mark.parametrize("target", ["/etc", f"slots/c/9.{DIGEST}", f"slots/a/0.{DIGEST}", f"slots/a/../9.{DIGEST}"])
def test_a_link_that_leads_elsewhere_is_no_model(robot: Robot, tmp_path: Path, target: str) -> None:
    (tmp_path / "active").symlink_to(target)
    assert robot.active_model() is None


def window(**changes: Any) -> Window:
    values: dict[str, Any] = {
        "content_digest": DIGEST, "started_at": NOW, "ended_at": NOW + timedelta(seconds=5), "distance_m": 3.0,
        "duration_s": 5.0, "decisions": 50, "energy_j": None, "counts": {}, "latency_p50_ms": 1, "latency_p99_ms": 2,
    }  # fmt: skip
    return Window(**{**values, **changes})


@pytest.mark.parametrize(
    "wrong",
    [
        {"distance_m": -1.0},
        {"distance_m": float("nan")},
        {"content_digest": "x"},
        {"started_at": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"counts": {"Bad Kind": 1}},
    ],
)
def test_what_the_wire_forbids_is_refused_where_it_happens(robot: Robot, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        robot.report_window(window(**wrong))
    assert robot._spool.counts()["rows"] == 0


def test_windows_and_events_share_one_sequence(robot: Robot) -> None:
    robot.report_window(window())
    given = robot.report_event(Event("collision", DIGEST, NOW, {"v": 1.0}, event_id="mine"))
    made = robot.report_event(Event("stuck", DIGEST, NOW))
    assert given == "mine"
    assert made
    assert [item.seq for item in robot._spool.take(10)] == [1, 2, 3]


def test_motion_is_written_when_it_changes(robot: Robot, tmp_path: Path) -> None:
    signals = Signals(StateDir(tmp_path).signals)
    assert signals.motion() is None
    robot.set_motion(False)
    first = (tmp_path / "signals" / "motion.json").stat().st_mtime_ns
    robot.set_motion(False)
    assert (tmp_path / "signals" / "motion.json").stat().st_mtime_ns == first
    motion = signals.motion()
    assert motion is not None
    assert motion.safe_to_switch is False


def test_a_recording_holds_pre_roll_and_post_roll_and_says_why(robot: Robot, tmp_path: Path) -> None:
    recorder = robot.recorder(pre_roll_s=6.0, post_roll_s=2.0)
    recorder.add_channel("/scan", "Scan")
    drive(recorder, 0, 100)
    assert recorder.trigger("collision", "e-1", DIGEST, {"world": {"mu": "0.1"}})
    drive(recorder, 100, 110)
    assert not list((tmp_path / "outbox").glob("*"))
    drive(recorder, 110, 125)
    (path,) = (tmp_path / "outbox").glob("*.mcap")
    times, metadata = read(path)
    assert (times[0] - START_NS) / 1e9 == pytest.approx(3.9)
    assert (times[-1] - START_NS) / 1e9 == pytest.approx(11.9)
    assert metadata["world"] == {"mu": "0.1"}
    assert metadata["fleetloop"]["event_id"] == "e-1"
    assert metadata["fleetloop"]["content_digest"] == DIGEST


def test_the_sidecar_is_the_announcement_and_comes_last(robot: Robot, tmp_path: Path) -> None:
    recorder = robot.recorder()
    recorder.add_channel("/scan", "Scan")
    drive(recorder, 0, 10)
    recorder.trigger("stuck", None, DIGEST)
    (digest,) = recorder.flush()
    announce = RecordingAnnounce.model_validate_json((tmp_path / "outbox" / f"{digest}.json").read_bytes())
    file = tmp_path / "outbox" / f"{digest}.mcap"
    assert (announce.sha256, announce.size_bytes, announce.trigger) == (digest, file.stat().st_size, "stuck")
    assert announce.started_at == datetime.fromtimestamp(START_NS / 1e9, UTC)
    assert {path.suffix for path in (tmp_path / "outbox").iterdir()} == {".json", ".mcap"}


def test_memory_is_bounded_in_bytes(robot: Robot) -> None:
    recorder = robot.recorder(pre_roll_s=1e6, max_bytes=10_000)
    recorder.add_channel("/scan", "Scan")
    drive(recorder, 0, 1000, b"x" * 100)
    assert recorder._ring_bytes <= 10_000
    assert len(recorder._ring) == 100


def test_a_post_roll_too_large_closes_early(robot: Robot, tmp_path: Path) -> None:
    recorder = robot.recorder(post_roll_s=1e6, max_bytes=10_000)
    recorder.add_channel("/scan", "Scan")
    drive(recorder, 0, 10)
    recorder.trigger("stuck", None, DIGEST)
    drive(recorder, 10, 200, b"x" * 100)
    assert len(list((tmp_path / "outbox").glob("*.mcap"))) == 1


def test_reset_forgets_what_came_before(robot: Robot, tmp_path: Path) -> None:
    recorder = robot.recorder()
    recorder.add_channel("/scan", "Scan")
    drive(recorder, 0, 50)
    recorder.reset()
    # Another drive, whose log time starts earlier.
    for tenth in range(5):
        recorder.write("/scan", 10**9 + tenth, b"{}")
    recorder.trigger("stuck", None, DIGEST)
    (digest,) = recorder.flush()
    assert len(read(tmp_path / "outbox" / f"{digest}.mcap")[0]) == 5


def test_too_many_recordings_at_once_are_counted(robot: Robot) -> None:
    recorder = robot.recorder()
    recorder.add_channel("/scan", "Scan")
    drive(recorder, 0, 10)
    taken = [recorder.trigger("stuck", f"e-{number}", DIGEST) for number in range(6)]
    assert taken == [True] * 4 + [False] * 2
    assert robot._spool.counts()["dropped_recordings"] == 2


def test_a_full_outbox_takes_no_more(tmp_path: Path) -> None:
    lost: list[int] = []
    recorder = Recorder(tmp_path / "outbox", {}, max_outbox_bytes=10, lost=lost.append)
    recorder.add_channel("/scan", "Scan")
    drive(recorder, 0, 10)
    recorder.trigger("stuck", None, DIGEST)
    assert recorder.flush() == []
    assert lost == [1]
    assert LIMITS["recording_bytes"] > 10
