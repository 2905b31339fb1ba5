"""Recorded traffic on a tiny synthetic recording: no shared data is needed."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agents.sdk import Robot
from flows.workloads.kit.field import FieldRobot
from flows.workloads.kit.fleet import Fleet
from flows.workloads.kit.types import WorkloadError
from flows.workloads.recorded_traffic import cases, field, relabel, scenarios, simulate, train
from flows.workloads.recorded_traffic.cases import DATA_ENV, library
from flows.workloads.recorded_traffic.policy import new_network, runtime, to_onnx
from flows.workloads.recorded_traffic.recordings import clip
from flows.workloads.recorded_traffic.rollout import by_human, by_planner, by_policy, drive
from flows.workloads.recorded_traffic.tracks import read_tracks, smooth
from flows.workloads.recorded_traffic.world import Scenario, from_json
from tests.unit.workloads.conftest import make_device, make_job, make_parent

STATES = 81
HOME = "USA_US101-14_1_T-1"
HELD_OUT_HOME = "USA_US101-26_1_T-1"
SITE, HELD_OUT = "USA_US101-10_1_T-1", "USA_US101-15_1_T-1"
QUICK = {
    "pretrain": {"epochs": 2},
    "train": {"epochs": 1},
    "relabel": {"rounds": 1, "variants": 1},
}
SETTINGS = argparse.Namespace(
    seed=1, dock_s=0.2, window_missions=1, clips_per_minute=1000.0, sample_share=0.5, rate=None
)


def state(step: int, x: float, y: float, speed: float) -> str:
    def exact(name: str, value: float) -> str:
        return f"<{name}><exact>{value:.4f}</exact></{name}>"

    point = f"<position><point><x>{x:.4f}</x><y>{y:.4f}</y></point></position>"
    return point + exact("orientation", 0.0) + f"<time><exact>{step}</exact></time>" + exact("velocity", speed)


def vehicle(name: int, lane: float, start_x: float, speeds: np.ndarray) -> str:
    x = start_x + np.concatenate([[0], np.cumsum(speeds[:-1])]) * 0.1
    states = [state(i, x[i], lane, speeds[i]) for i in range(len(speeds))]
    path = "".join(f"<state>{one}</state>" for one in states[1:])
    return (
        f'<dynamicObstacle id="{name}"><type>car</type>'
        "<shape><rectangle><length>4.5</length><width>1.8</width></rectangle></shape>"
        f"<initialState>{states[0]}</initialState><trajectory>{path}</trajectory></dynamicObstacle>"
    )


def recording(*, braking: bool) -> str:
    """Three cars in a lane, and one beside them; when braking, the first one brakes hard and the others follow."""
    t = np.arange(STATES) * 0.1
    lead = 12.0 - (np.clip((t - 2) * 4, 0, 11) if braking else 0 * t)
    cars = [vehicle(i, 0.0, -16.0 * i, np.interp(t - 0.7 * i, t, lead, left=12.0)) for i in range(3)] + [
        vehicle(9, 3.6, 5.0, np.full(STATES, 11.0))
    ]
    lanelet = '<lanelet id="1"><leftBound><point><x>0</x><y>0</y></point></leftBound></lanelet>'
    return f'<commonRoad timeStepSize="0.1" commonRoadVersion="2020a">{lanelet}{"".join(cars)}</commonRoad>'


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("traffic")
    for name in (HOME, HELD_OUT_HOME, SITE, HELD_OUT):
        (folder / f"{name}.xml").write_text(recording(braking=name in (SITE, HELD_OUT)))
    (folder / "UNKNOWN-1.xml").write_text("<nothing/>")
    patch = pytest.MonkeyPatch()
    patch.setenv(DATA_ENV, str(folder))
    library.cache_clear()
    yield folder
    patch.undo()
    library.cache_clear()


def test_tracks_are_read_without_the_road(data: Path) -> None:
    tracks = read_tracks(data / f"{SITE}.xml")
    assert [track.vehicle for track in tracks] == ["0", "1", "2", "9"]
    assert len(tracks[0].x_m) == STATES
    assert tracks[0].length_m == 4.5
    assert tracks[3].vx_mps == pytest.approx(11.0, abs=0.05)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<commonRoad timeStepSize='0.1'><dynamicObstacle>", "no element found"),
        ("<nothing/>", "not a CommonRoad scenario"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><commonRoad timeStepSize="0.1">&x;</commonRoad>', "declares entities"),
        ("<commonRoad/>", "timeStepSize"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_by_name(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "odd.xml").write_text(text)
    with pytest.raises(WorkloadError, match=rf"odd\.xml: .*{why}"):
        read_tracks(tmp_path / "odd.xml")


def test_without_data_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(DATA_ENV, raising=False)
    with pytest.raises(WorkloadError, match="--data DIR"):
        library.__wrapped__()
    with pytest.raises(WorkloadError, match="none of the recordings"):
        library.__wrapped__(str(tmp_path))


def test_smoothing_keeps_straight_lines() -> None:
    line = np.linspace(3, 9, 50)
    np.testing.assert_allclose(smooth(line, 4.0), line, atol=1e-9)


def test_the_recorded_human_and_the_planner_are_safe(data: Path) -> None:
    starts = [Scenario(case.name) for case in library().values()]
    assert len(starts) == 16
    for decide in (by_human, by_planner):
        found, _ = drive(starts, decide)
        assert [outcome.kind for outcome in found] == [None] * 16
        assert sum(outcome.distance_m for outcome in found) == pytest.approx(
            sum(outcome.human_m for outcome in found), rel=0.05
        )


def test_driving_on_into_a_braking_car_is_unsafe(data: Path) -> None:
    found, visited = drive([Scenario(f"{SITE}/1")], lambda _, slots: np.full(len(slots), 1.0, np.float32))
    assert found[0].collision
    assert found[0].metrics()["unsafe"] == 1
    assert visited.step[-1] < STATES - 1


def test_a_drive_ends_the_same_whatever_the_batch(data: Path) -> None:
    policy = by_policy(runtime(new_network(3)))
    starts = [start for case in list(library().values())[:5] for start in relabel.every_start(case.name)]
    together, _ = drive(starts, policy)
    few, _ = drive(starts, policy, slots=3)
    assert [one.metrics() for one in together] == [one.metrics() for one in few]
    assert drive([starts[7]], policy)[0][0].metrics() == together[7].metrics()


def test_a_scenario_from_a_device_is_checked(data: Path) -> None:
    known = f"{SITE}/1"
    assert from_json({"case": known, "start_step": 20}, "a.mcap") == Scenario(known, 20)
    for bad in ({"case": "x"}, {"case": known, "start_step": 80}, {"case": known, "lag_s": 9}, {"wheels": 3}):
        with pytest.raises(WorkloadError, match=r"a\.mcap"):
            from_json(bad, "a.mcap")


def test_held_out_vehicles_are_never_driven_by_devices(data: Path) -> None:
    found = scenarios.suite_scenarios("field", 100, 1)
    assert {entry.cluster.split("/")[0] for entry in found} == {HELD_OUT}
    assert {entry.cluster.split("/")[0] for entry in scenarios.suite_scenarios("nominal", 100, 1)} == {HELD_OUT_HOME}
    assert len(found) == len({json.dumps(entry.params) for entry in found}) <= 100
    driven = {case.name.split("/")[0] for case in cases.in_groups(field.SITES)}
    assert driven == {SITE}


def test_the_loop_runs_from_driving_to_results(data: Path, tmp_path: Path) -> None:
    first = make_job(tmp_path / "pretrain", mode="pretrain", seed=1, recipe=QUICK)
    train.command(first)
    parent = make_parent(tmp_path / "parent", first.folder / "outputs")
    fleet, clips = drive_fleet(tmp_path)
    fleet.close()
    assert any(clip(path).is_incident for path in clips)

    folder = tmp_path / "recordings"
    folder.mkdir()
    for path in clips:
        (folder / path.name).symlink_to(path)
    labelled = make_job(tmp_path / "relabel", {"recordings": folder, "parent": parent}, seed=1, recipe=QUICK)
    relabel.command(labelled)
    inputs = {
        "parent": parent,
        "base": first.folder / "outputs/frames",
        "dataset": labelled.folder / "outputs/frames",
    }
    second = make_job(tmp_path / "train", inputs, mode="finetune", seed=1, recipe=QUICK)
    train.command(second)
    suite = make_job(tmp_path / "suite", suite="field", kind="field", scenarios=6, seed=1)
    scenarios.command(suite)
    inputs = {"model": second.folder / "outputs/model", "suite": suite.folder / "outputs/suite"}
    done = make_job(tmp_path / "simulate", inputs, suite="field", start=0, stop=6)
    simulate.command(done)
    rows = [json.loads(line) for line in (done.folder / "outputs/results/results.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert all({"unsafe", "distance_m", "duration_s"} <= set(row["metrics"]) for row in rows)


def drive_fleet(tmp_path: Path) -> tuple[Fleet, list[Path]]:
    """Three cars whose model always speeds up a little."""
    network = new_network(1)
    network.pedal.weight.data[:] = 0.0
    network.pedal.bias.data[:] = 0.8
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "model.onnx").write_bytes(to_onnx(network))
    fleet = Fleet(lambda slots: field.Road(slots, SETTINGS), 2)
    for i in range(3):
        device = make_device(tmp_path / "fleet", f"car-{i}", bundle, "us101_dense_a")
        fleet.add(FieldRobot(Robot(device), field.TOPICS, SETTINGS))
    for _ in range(250):
        fleet.step()
    return fleet, sorted((tmp_path / "fleet").glob("*/outbox/*.mcap"))


def test_imitating_the_field_copies_recorded_drivers(data: Path) -> None:
    one = clip_of(Scenario(f"{SITE}/1"))
    found, _ = relabel.relabel([one], new_network(1), relabel.Relabelling(imitate=True), 1)
    assert set(found.source) == {"human"}
    assert {group.split("/")[0] for group in found.group} == {SITE}


def clip_of(scenario: Scenario) -> relabel.Clip:
    nothing = np.zeros(1, np.float32)
    return relabel.Clip("event-1", "collision", scenario, nothing.astype(np.int64), nothing, nothing)
