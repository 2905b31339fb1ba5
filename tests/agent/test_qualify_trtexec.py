"""Engines built on the device by a program: its stages, its time-out, and when one that is kept is used again.

TensorRT is not here; what runs in its place speaks its options and formats and computes for real.
"""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents.inference import Demands, QualifierPool, Surroundings, Verdict
from tests.agent.bundles import files
from tests.agent.onnx_files import bundle

MACHINE = {"tensorrt": "10.3.0.30", "cuda": "12.6.68", "gpu_sm": "8.7", "model": "AGX Orin", "l4t": "36.4.3"}
STAND_IN = Path(__file__).with_name("trtexec_stand_in.py")


@pytest.fixture
async def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[QualifierPool]:
    program = tmp_path / "bin/trtexec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    running = QualifierPool(idle_s=0.2)
    yield running
    await running.close()


async def tried(
    pool: QualifierPool, tmp_path: Path, content: dict[str, bytes], machine: dict[str, str], **demands: float
) -> tuple[Verdict, list[str]]:
    stages: list[str] = []
    asked = Demands.model_validate({"runtime": "trtexec", "soak_s": 0.2, "memory_mb": 4096, **demands})
    around = Surroundings(asked, machine=lambda: machine, engines=tmp_path / "engines")
    return await pool.qualify(bundle(tmp_path / "b", content), around, lambda name, _share: stages.append(name)), stages


async def test_an_engine_is_built_once_for_one_machine(pool: QualifierPool, tmp_path: Path) -> None:
    verdict, stages = await tried(pool, tmp_path, files(2.0), MACHINE)
    assert verdict.ok, verdict.reason
    assert stages[0] == "building_engine"
    assert verdict.numbers["latency_p99_ms"] > 0
    assert verdict.numbers["golden_rows"] == 4
    assert (await tried(pool, tmp_path, files(2.0), MACHINE))[1][0] == "golden"
    other, stages = await tried(pool, tmp_path, files(2.0), {**MACHINE, "l4t": "36.5.0"})
    assert (other.ok, stages[0]) == (True, "building_engine")


async def test_d50_an_engine_that_was_changed_is_built_anew(pool: QualifierPool, tmp_path: Path) -> None:
    await tried(pool, tmp_path, files(2.0), MACHINE)
    (plan,) = (tmp_path / "engines").glob("*/model.plan")
    plan.write_bytes(b"from elsewhere")
    verdict, stages = await tried(pool, tmp_path, files(2.0), MACHINE)
    assert (verdict.ok, stages[0]) == (True, "building_engine")
    assert plan.read_bytes() != b"from elsewhere"


async def test_golden_vectors_are_those_of_the_engine(pool: QualifierPool, tmp_path: Path) -> None:
    verdict, _ = await tried(pool, tmp_path, files(2.0, golden_scale=2.1), MACHINE)
    assert not verdict.ok
    assert "differs from the golden" in verdict.reason


async def test_a_build_that_does_not_end_is_ended(
    pool: QualifierPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETLOOP_TEST_BUILD_S", "60")
    verdict, stages = await tried(pool, tmp_path, files(2.0), MACHINE, build_s=2.5)
    assert not verdict.ok
    assert "did not end in 2 s" in verdict.reason
    assert stages.count("building_engine") >= 2  # it says that it goes on
    assert list((tmp_path / "engines").glob("*/model.plan")) == []


async def test_a_machine_that_does_not_say_what_it_is_keeps_no_engine(pool: QualifierPool, tmp_path: Path) -> None:
    verdict, _ = await tried(pool, tmp_path, files(2.0), {**MACHINE, "gpu_sm": ""})
    assert not verdict.ok
    assert "needs to know the machine" in verdict.reason


async def test_without_the_program_there_is_no_such_runtime(
    pool: QualifierPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin/trtexec").unlink()
    verdict, _ = await tried(pool, tmp_path, files(2.0), MACHINE)
    assert (verdict.ok, verdict.reason) == (False, "trtexec is not installed here")
