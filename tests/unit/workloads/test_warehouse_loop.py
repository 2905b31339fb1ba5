"""The loop on the robot's side and in job folders: the real SDK writes, the commands read."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from safetensors.numpy import load_file

from agents.sdk import Recorder, Robot
from agents.sdk.spool import EVENT, WINDOW, Spool
from control_plane.telemetry.domain import RecordingError, replay_of
from flows.workloads.kit.field import FieldRobot
from flows.workloads.kit.fleet import Fleet
from flows.workloads.kit.frames import read_frames
from flows.workloads.kit.recordings import read_recording
from flows.workloads.kit.suites import evidence_sha256
from flows.workloads.kit.types import WorkloadError
from flows.workloads.warehouse_amr import field, relabel, scenarios, simulate, train
from flows.workloads.warehouse_amr.policy import FRAME, new_network, to_onnx
from flows.workloads.warehouse_amr.recordings import incident
from flows.workloads.warehouse_amr.scenarios import SITES
from tests.unit.workloads.conftest import TINY, make_device, make_job, make_parent

SETTINGS = argparse.Namespace(
    seed=1, dock_s=0.3, window_missions=2, clips_per_minute=1000.0, sample_share=0.5, rate=None
)


def drive_fleet(root: Path, steps: int) -> tuple[Fleet, list[Path]]:
    fleet = Fleet(lambda slots: field.Warehouse(slots, SETTINGS), 3)
    for device in sorted(root.iterdir()):
        fleet.add(FieldRobot(Robot(device), field.TOPICS, SETTINGS))
    for _ in range(steps):
        fleet.step()
    return fleet, sorted(root.glob("*/outbox/*.mcap"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """Six robots with an untrained model drive until they have recorded something."""
    bundle, root = tmp_path_factory.mktemp("bundle"), tmp_path_factory.mktemp("fleet")
    (bundle / "model.onnx").write_bytes(to_onnx(new_network(5)))
    for i in range(6):
        make_device(root, f"amr-{i}", bundle, list(SITES)[i % 3])
    fleet, clips = drive_fleet(root, 330)
    fleet.close()
    return root, clips


def spooled(root: Path, kind: str) -> list[dict[str, Any]]:
    """What the robots stored for their agents."""
    found = []
    for path in root.glob("*/spool.db"):
        spool = Spool(path)
        found += [item.body for item in spool.take(1000) if item.kind == kind]
        spool.close()
    return found


def test_robots_record_incidents_that_can_be_read_back(recorded: tuple[Path, list[Path]]) -> None:
    _, paths = recorded
    clips = [incident(path) for path in paths]
    assert any(clip.is_incident for clip in clips)
    for clip in clips:
        assert clip.scenario.site in SITES
        assert 0 < len(clip.vec) == len(clip.state.x) <= 82
        assert clip.scan.shape[1:] == (3, 60)


def as_before(path: Path, to: Path) -> Path:
    """Write a recording again as robots did before theirs described themselves."""
    recording, root = read_recording(path), to / "before"
    recorder = Recorder(root, {}, pre_roll_s=60)
    for topic in recording.messages:
        recorder.add_channel(topic, topic, encoding="x-le-struct")
    for topic, rows in recording.messages.items():
        for log_time_ns, payload in rows:
            recorder.write(topic, log_time_ns, payload)
    known = {name: recording.meta(name) for name in ("trigger", "scenario")}
    recorder.trigger(known["trigger"]["kind"], known["trigger"]["event_id"] or None, "ab" * 32, known)
    [digest] = recorder.flush()
    return root / f"{digest}.mcap"


def test_a_recording_shows_what_relabelling_reads(recorded: tuple[Path, list[Path]]) -> None:
    for path in recorded[1]:
        clip, shown = incident(path), replay_of(path.read_bytes(), 64 << 20)
        assert len(shown.steps) == len(clip.state.x)
        for name, value in (("x_m", clip.state.x), ("y_m", clip.state.y), ("yaw_rad", clip.state.yaw)):
            np.testing.assert_allclose([getattr(step, name) for step in shown.steps], value, atol=6e-4)
        np.testing.assert_allclose([step.ranges_m for step in shown.steps], 8 * clip.scan[:, 0], atol=6e-3)
        assert {len(step.movers) for step in shown.steps} == {len(clip.scenario.movers)}
        assert len(shown.world.rectangles) >= 8
        assert shown.triggered_t_s is not None
        if clip.kind == "near_miss":
            assert shown.triggered_t_s == pytest.approx(shown.steps[-1].t_s - 2.0, abs=0.15)
        if clip.kind in ("collision", "stuck"):
            assert shown.triggered_t_s == shown.steps[-1].t_s


def test_recordings_from_before_are_read_and_were_little_smaller(
    recorded: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    path = recorded[1][0]
    before = as_before(path, tmp_path)
    np.testing.assert_array_equal(incident(before).state.x, incident(path).state.x)
    assert path.stat().st_size < 1.08 * before.stat().st_size
    with pytest.raises(RecordingError, match="does not describe itself"):
        replay_of(before.read_bytes(), 64 << 20)


def test_recordings_lead_to_frames_a_model_and_results(
    recorded: tuple[Path, list[Path]], pretrained: Path, tmp_path: Path
) -> None:
    clips, parent = tmp_path / "recordings", make_parent(tmp_path / "parent", pretrained)
    clips.mkdir()
    for path in recorded[1][:6]:
        (clips / path.name).symlink_to(path)
    (clips / "cut.mcap").write_bytes(recorded[1][0].read_bytes()[:900])
    relabelled = make_job(tmp_path / "relabel", {"recordings": clips, "parent": parent}, seed=1, recipe=TINY)
    relabel.command(relabelled)
    data = read_frames(relabelled.folder / "outputs/frames/frames.parquet", FRAME)
    assert set(data.source) == {"clip", "resim"}
    assert set(data.weight) <= {1.0, 2.0}
    report = json.loads((relabelled.folder / "outputs/report/report.json").read_text())
    assert [problem.split(":")[0] for problem in report["unusable"]] == ["cut.mcap"]

    inputs = {
        "parent": parent,
        "base": pretrained / "frames",
        "dataset": relabelled.folder / "outputs/frames",
    }
    trained = make_job(tmp_path / "train", inputs, mode="finetune", seed=1, recipe=TINY)
    train.command(trained)
    assert (trained.folder / "outputs/checkpoint/weights.safetensors").exists()

    suite = make_job(
        tmp_path / "suite", {"recordings": clips}, suite="regression", kind="regression", scenarios=4, seed=1
    )
    scenarios.command(suite)
    inputs = {"model": trained.folder / "outputs/model", "suite": suite.folder / "outputs/suite"}
    simulated = make_job(tmp_path / "simulate", inputs, suite="regression", start=1, stop=4)
    simulate.command(simulated)
    rows = [json.loads(line) for line in (simulated.folder / "outputs/results/results.jsonl").read_text().splitlines()]
    assert [row["scenario"] for row in rows] == [f"regression-{i:05d}" for i in (1, 2, 3)]
    for row in rows:
        assert {"incident", "distance_m", "duration_s"} <= set(row["metrics"])
        assert row["evidence_sha256"] == evidence_sha256(row)


def test_a_bundle_answers_its_golden_vectors(pretrained: Path) -> None:
    bundle = pretrained / "model"
    assert {path.name for path in bundle.iterdir()} == {"model.onnx", "contract.json", "golden.safetensors"}
    golden, contract = load_file(bundle / "golden.safetensors"), json.loads((bundle / "contract.json").read_text())
    feed = {value["name"]: golden[f"input.{value['name']}"] for value in contract["inputs"]}
    found = ort.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"]).run(None, feed)[0]
    expected = golden[f"output.{contract['outputs'][0]['name']}"]
    np.testing.assert_allclose(found, expected, **contract["golden"])
    assert len(expected) >= 3


def test_robots_report_what_they_did(recorded: tuple[Path, list[Path]]) -> None:
    root, _ = recorded
    windows, events = spooled(root, WINDOW), spooled(root, EVENT)
    assert sum(window["decisions"] for window in windows) > 300
    assert sum(sum(window["counts"].values()) for window in windows) == len(events)
    assert {event["kind"] for event in events} <= {"collision", "near_miss", "stuck"}


def test_robots_vouch_for_a_model_that_answers(recorded: tuple[Path, list[Path]]) -> None:
    health = [json.loads(path.read_text()) for path in recorded[0].glob("*/signals/health.json")]
    assert health
    assert all(one["ok"] for one in health)


def test_a_robot_without_a_model_stands_still(tmp_path: Path) -> None:
    device = make_device(tmp_path / "fleet", "amr-1", tmp_path, "hall")
    (device / "active").unlink()
    fleet, clips = drive_fleet(tmp_path / "fleet", 5)
    assert not fleet.step()
    assert not clips
    assert json.loads((device / "signals/motion.json").read_text())["safe_to_switch"] is True


def test_a_robot_refuses_a_model_that_does_not_load(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "model.onnx").write_bytes(b"\x00 not a model")
    device = make_device(tmp_path / "fleet", "amr-1", bundle, "hall")
    fleet, _ = drive_fleet(tmp_path / "fleet", 3)
    health = json.loads((device / "signals/health.json").read_text())
    assert health["ok"] is False
    assert "cannot be loaded" in health["reason"]
    assert not fleet.step()


def test_a_robot_stops_with_a_model_that_answers_nonsense(tmp_path: Path) -> None:
    network = new_network(5)
    network.command.bias.data[:] = float("nan")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "model.onnx").write_bytes(to_onnx(network))
    device = make_device(tmp_path / "fleet", "amr-1", bundle, "hall")
    fleet, _ = drive_fleet(tmp_path / "fleet", 3)
    assert json.loads((device / "signals/health.json").read_text())["ok"] is False
    assert not fleet.step()


def test_the_same_bytes_released_again_are_vouched_for_again(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "model.onnx").write_bytes(to_onnx(new_network(5)))
    device = make_device(tmp_path / "fleet", "amr-1", bundle, "hall")
    fleet, _ = drive_fleet(tmp_path / "fleet", 150)
    health = device / "signals/health.json"
    health.unlink()
    again = device / "slots" / "a" / f"2.{'ab' * 32}"
    again.symlink_to(bundle)
    (device / "active").unlink()
    (device / "active").symlink_to(again.relative_to(device))
    for _ in range(250):
        fleet.step()
    assert json.loads(health.read_text())["ok"] is True


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_a_truncated_recording_is_refused_by_name(
    share: float, recorded: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    whole = recorded[1][0].read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WorkloadError, match=r"cut\.mcap"):
        incident(cut)


def test_a_damaged_recording_is_refused_by_name(recorded: tuple[Path, list[Path]], tmp_path: Path) -> None:
    data, rng = bytearray(recorded[1][0].read_bytes()), np.random.default_rng(1)
    for at in rng.integers(100, len(data) - 100, 30):
        data[at] ^= 0xFF
    (tmp_path / "bad.mcap").write_bytes(data)
    with pytest.raises(WorkloadError, match=r"bad\.mcap"):
        incident(tmp_path / "bad.mcap")
