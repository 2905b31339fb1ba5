"""The command `replay`: the same drive as `simulate`, the same bytes every time, and never too much of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from control_plane.evaluation.schemas import ReplayFile
from flows.workloads.kit.replays import MAX_RAYS, MAX_STEPS, Step, numbers, thinned
from flows.workloads.kit.types import WorkloadError
from flows.workloads.warehouse_amr import replay, scenarios, simulate
from flows.workloads.warehouse_amr.judge import MOVING_MPS
from flows.workloads.warehouse_amr.policy import new_network, to_onnx
from tests.unit.workloads.conftest import make_job

COUNT = 12


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model that never learned anything, and a suite of the hardest site."""
    root = tmp_path_factory.mktemp("replay")
    (root / "bundle").mkdir()
    (root / "bundle" / "model.onnx").write_bytes(to_onnx(new_network(5)))
    job = make_job(root / "scenarios", suite="field", kind="field", scenarios=COUNT, seed=3)
    scenarios.command(job)
    return {"model": root / "bundle", "suite/suite.json": job.folder / "outputs" / "suite" / "suite.json"}


def drive(folder: Path, inputs: dict[str, Path], names: list[str]) -> dict[str, bytes]:
    job = make_job(folder, inputs, suite="field", scenarios=names)
    replay.command(job)
    return {path.stem: path.read_bytes() for path in (folder / "outputs" / "replay").iterdir()}


@pytest.fixture(scope="module")
def names(inputs: dict[str, Path]) -> list[str]:
    return [item["id"] for item in json.loads(inputs["suite/suite.json"].read_text())["scenarios"]]


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory, inputs: dict[str, Path], names: list[str]) -> dict[str, bytes]:
    return drive(tmp_path_factory.mktemp("jobs") / "all", inputs, names)


def test_a_replay_agrees_with_what_simulate_reported(
    tmp_path: Path, inputs: dict[str, Path], driven: dict[str, bytes]
) -> None:
    job = make_job(tmp_path / "simulate", inputs, suite="field", start=0, stop=COUNT)
    simulate.command(job)
    lines = [json.loads(line) for line in (job.folder / "outputs/results/results.jsonl").read_text().splitlines()]
    assert {line["scenario"] for line in lines} == set(driven)
    for line in lines:
        found = json.loads(driven[line["scenario"]])
        assert found["outcome"]["metrics"] == line["metrics"]
        assert (found["model_sha256"], found["simulator"]) == (line["model_sha256"], line["simulator"])
        assert closest(found["steps"]) == (line["metrics"]["min_clearance_m"], line["metrics"]["min_ttc_s"])
        assert found["steps"][-1]["t_s"] == line["metrics"]["duration_s"]
        assert f"after {line['metrics']['duration_s']:.1f} s" in found["outcome"]["words"]


def closest(steps: list[dict[str, Any]]) -> tuple[float, float]:
    """The worst of all steps as the judge counts it: a time to collision only while the robot moves."""
    moving = [step for step in steps if abs(step["speed_mps"]) > MOVING_MPS]
    clearances = [step["clearance_m"] for step in steps if step["clearance_m"] is not None]
    return min([9.0, *clearances]), min([9.0, *(step["ttc_s"] for step in moving if step["ttc_s"] is not None)])


def test_the_same_scenario_is_the_same_bytes_alone_and_in_company(
    tmp_path: Path, inputs: dict[str, Path], names: list[str], driven: dict[str, bytes]
) -> None:
    few = drive(tmp_path / "few", inputs, [names[7], names[2]])
    assert few == {name: driven[name] for name in (names[7], names[2])}


def test_a_replay_is_what_the_control_plane_takes_and_is_bounded(driven: dict[str, bytes]) -> None:
    for name, data in driven.items():
        found = ReplayFile.model_validate_json(data)
        assert (found.scenario, found.suite, found.dt_s) == (name, "field", 0.1)
        assert 1 < len(found.steps) <= MAX_STEPS
        assert {len(step.ranges_m) for step in found.steps} == {len(found.robot.ray_angles_rad)} == {MAX_RAYS}
        assert len(data) < 400_000
        assert found.steps[-1].command is None
        assert all(step.command for step in found.steps[:-1])
        assert 10 <= len(found.world.rectangles) <= 16


def test_movers_are_where_the_lidar_sees_them(driven: dict[str, bytes]) -> None:
    steps = [step for data in driven.values() for step in json.loads(data)["steps"] if step["movers"]]
    assert steps
    near = [step for step in steps if step["clearance_m"] is not None and 0 < step["clearance_m"] < 0.5]
    assert near
    assert sum(min(step["ranges_m"]) < 1.7 for step in near) > 0.9 * len(near)


def test_a_long_drive_is_thinned_evenly_and_keeps_its_ends() -> None:
    steps = [Step(i / 10, 0.0, 0.0, 0.0, 0.0, [], [], None, None, None) for i in range(1001)]
    kept = thinned(steps)
    assert (len(kept), kept[0], kept[-1]) == (MAX_STEPS, steps[0], steps[-1])
    gaps = np.diff([step.t_s for step in kept])
    assert 0.15 < gaps.min() <= gaps.max() < 0.35


def test_numbers_are_rounded_and_json_can_hold_them() -> None:
    assert numbers(np.array([1.23456, -0.0001, np.nan, np.inf])) == [1.235, 0.0, 0.0, 0.0]
    assert str(numbers(np.array([-0.0001]))[0]) == "0.0"


@pytest.mark.parametrize("asked", [["nobody"], []])
def test_a_scenario_nobody_planned_is_refused(tmp_path: Path, inputs: dict[str, Path], asked: list[str]) -> None:
    with pytest.raises(WorkloadError, match="scenarios"):
        drive(tmp_path / "job", inputs, asked)
