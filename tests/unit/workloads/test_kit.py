import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.workloads.kit import noise
from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.frames import Feature, Frames, frames, join, read_frames, write_frames
from flows.workloads.kit.noise import BLOCK_STEPS, SlotNoise
from flows.workloads.kit.suites import Entry, Suite, evidence_sha256, read_suite, result
from flows.workloads.kit.types import WorkloadError

LAYOUT = (Feature("scan", "float16", (3, 4)), Feature("label", "float32", (2,)))


def some_frames(rows: int, group: str) -> Frames:
    rng = np.random.default_rng(rows)
    features = {"scan": rng.random((rows, 3, 4)), "label": rng.random((rows, 2))}
    return frames(features, weight=2.0, group=group, source="clip")


def test_streams_depend_on_their_name_alone() -> None:
    assert noise.seed_of("a", 1) == noise.seed_of("a", 1)
    assert noise.seed_of("a", 1) != noise.seed_of("a", 2)
    assert noise.seed_of("a", 11) != noise.seed_of("a1", 1)


def test_a_slot_plays_its_scenarios_noise_whatever_stands_beside_it() -> None:
    alone, crowd = SlotNoise(1, 5), SlotNoise(7, 5)
    alone.load(0, 99)
    for slot in range(7):
        crowd.load(slot, 99 if slot == 4 else slot)
    for step in range(2 * BLOCK_STEPS + 3):
        one = alone.take(np.array([step]), np.ones(1, bool))
        many = crowd.take(np.full(7, step), np.ones(7, bool))
        assert all(np.array_equal(left[0], right[4]) for left, right in zip(one, many, strict=True))


def test_frames_come_back_as_they_were(tmp_path: Path) -> None:
    data = join([some_frames(3, "event-1"), some_frames(2, "event-2")])
    write_frames(tmp_path / "frames.parquet", data, LAYOUT)
    back = read_frames(tmp_path / "frames.parquet", LAYOUT)
    assert back["scan"].dtype == np.float16
    np.testing.assert_array_equal(back["scan"], data["scan"].astype(np.float16))
    assert list(back.group) == ["event-1"] * 3 + ["event-2"] * 2
    assert set(back.source) == {"clip"}
    assert set(back.weight) == {2.0}


def test_frames_of_another_shape_are_refused(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames.parquet", some_frames(3, "g"), LAYOUT)
    with pytest.raises(WorkloadError, match="lists of 8"):
        read_frames(tmp_path / "frames.parquet", (Feature("scan", "float16", (2, 4)),))
    with pytest.raises(WorkloadError, match="vec is missing"):
        read_frames(tmp_path / "frames.parquet", (Feature("vec", "float32", (2,)),))


def test_frames_with_holes_are_refused(tmp_path: Path) -> None:
    data = some_frames(3, "g")
    data["label"][1, 0] = np.nan
    write_frames(tmp_path / "frames.parquet", data, LAYOUT)
    with pytest.raises(WorkloadError, match="infinite"):
        read_frames(tmp_path / "frames.parquet", LAYOUT)


def test_what_is_no_parquet_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "frames.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(WorkloadError, match=r"frames\.parquet"):
        read_frames(tmp_path / "frames.parquet", LAYOUT)


def test_a_result_is_sealed_by_its_own_content(tmp_path: Path) -> None:
    entry = Entry("nominal-0", 7, "nominal-0", [], {})
    suite = Suite("w", "nominal", "nominal", "sim@1", [entry])
    suite.write(tmp_path / "suite.json")
    assert read_suite(tmp_path / "suite.json", "sim@1") == suite
    row = result(suite, entry, "ab", {"incident": 0, "distance_m": 1.5, "duration_s": 2.0})
    assert row["evidence_sha256"] == evidence_sha256(row)
    assert row["evidence_sha256"] != evidence_sha256({**row, "seed": 8})


def test_a_suite_of_another_simulator_is_refused(tmp_path: Path) -> None:
    Suite("w", "s", "nominal", "sim@1", []).write(tmp_path / "suite.json")
    with pytest.raises(WorkloadError, match="sim@2"):
        read_suite(tmp_path / "suite.json", "sim@2")


def test_an_answer_does_not_depend_on_the_batch(reckless: Policy) -> None:
    rng = np.random.default_rng(3)
    scan, vec = rng.random((70, 3, 60), np.float32), rng.standard_normal((70, 14), np.float32)
    together = reckless(scan=scan, vec=vec)
    alone = np.concatenate([reckless(scan=scan[i : i + 1], vec=vec[i : i + 1]) for i in range(70)])
    assert np.array_equal(together, alone)
    assert reckless(scan=scan[:0], vec=vec[:0]).shape == (0, 2)


def test_a_broken_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x00 nothing")
    with pytest.raises(WorkloadError, match="cannot be loaded"):
        Policy.load(tmp_path)
    with pytest.raises(WorkloadError, match="cannot be read"):
        Policy.load(tmp_path / "nowhere")


def test_a_command_fails_with_one_line_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text(json.dumps({"kind": "strange", "suite": "s", "scenarios": 1, "seed": 1}))
    command = [sys.executable, "-m", "flows.workloads.warehouse_amr.scenarios"]
    root = Path(__file__).parents[3]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "kind of suite 'strange' is unknown"
