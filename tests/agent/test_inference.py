import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from agents.inference import Demands, QualifierPool, Surroundings
from agents.inference.contract import NotQualifiedError
from agents.inference.measure import qualify
from tests.agent.bundles import files


def bundle(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def changed(data: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(data), **changes}).encode()


def test_a_good_bundle_is_measured(tmp_path: Path) -> None:
    numbers = qualify(bundle(tmp_path, files(2.0)))
    assert numbers["max_abs_error"] == 0
    assert numbers["golden_rows"] == 4
    assert 0 < numbers["latency_p50_ms"] <= numbers["latency_p99_ms"]


def test_the_tolerance_is_the_contracts(tmp_path: Path) -> None:
    loose = {"golden": {"rtol": 0.01, "atol": 0.0}}
    numbers = qualify(bundle(tmp_path, files(2.0, golden_scale=2.001, contract=loose)))
    assert numbers["max_abs_error"] == pytest.approx(0.011, abs=1e-4)


def with_file(name: str, data: bytes) -> dict[str, bytes]:
    return {**files(), name: data}


def with_contract(**changes: Any) -> dict[str, bytes]:
    return files(contract=changes)


def with_golden(**tensors: Any) -> dict[str, bytes]:
    return with_file("golden.safetensors", save({name.replace("__", "."): value for name, value in tensors.items()}))


ROWS = np.ones((2, 3), dtype=np.float32)
SPEC = {"name": "x", "dtype": "float32", "shape": ["N", 3], "unit": "1"}


def not_a_number() -> dict[str, bytes]:
    good = files(1.0)
    broken = np.full((2, 3), np.nan, dtype=np.float32)
    return {**good, "golden.safetensors": save({"input.x": broken, "output.y": broken})}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (files(2.0, golden_scale=2.1), "differs from the golden"),
        (with_file("model.pt", b"x"), "only .onnx"),
        (with_file("weights.pkl", b"x"), "only .onnx"),
        (with_file("model.onnx", b"not onnx"), "no ONNX file"),
        (with_file("contract.json", b'{"name":1,"name":2}'), "stands twice"),
        (with_file("golden.safetensors", b"\x80\x04pickle"), "golden.safetensors"),
        ({name: data for name, data in files().items() if name != "contract.json"}, "has no contract.json"),
        (with_contract(inputs=[{**SPEC, "dtype": "float64"}]), "contract.json"),
        (with_contract(inputs=[{**SPEC, "dtype": "int64"}]), "the contract says int64"),
        (with_contract(inputs=[{**SPEC, "shape": ["N", 4]}]), "the contract says"),
        (with_contract(inputs=[{**SPEC, "name": "z"}]), "not those of the contract"),
        (with_golden(input__x=ROWS), "has no output.y"),
        (with_golden(input__x=ROWS[:0], output__y=ROWS[:0]), "at least one"),
        (with_golden(input__x=ROWS, output__y=ROWS[:1]), "same number of rows"),
        (with_golden(input__x=ROWS.astype(np.float64), output__y=ROWS), "float64"),
        (with_golden(input__x=ROWS, output__y=ROWS.astype(np.int32)), "int32"),
        (not_a_number(), "not finite"),
    ],
)
def test_a_bundle_that_does_not_qualify(tmp_path: Path, content: dict[str, bytes], words: str) -> None:
    with pytest.raises(NotQualifiedError) as refused:
        qualify(bundle(tmp_path, content))
    assert words in str(refused.value)


@pytest.fixture
async def pool() -> AsyncIterator[QualifierPool]:
    running = QualifierPool(idle_s=0.2)
    yield running
    await running.close()


async def test_the_worker_answers_and_survives_a_bad_bundle(pool: QualifierPool, tmp_path: Path) -> None:
    bad = await pool.qualify(bundle(tmp_path / "bad", files(2.0, golden_scale=3.0)))
    good = await pool.qualify(bundle(tmp_path / "good", files(2.0)))
    assert (bad.ok, good.ok) == (False, True)
    assert "differs" in bad.reason
    assert good.numbers["latency_p99_ms"] > 0


async def test_a_model_that_kills_its_worker_does_not_qualify(
    pool: QualifierPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = tmp_path / "python"
    killer.write_text("#!/bin/sh\nread line\nkill -SEGV $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killer))
    verdict = await pool.qualify(tmp_path)
    assert (verdict.ok, verdict.reason) == (False, "the model crashed its worker")


async def test_a_worker_that_never_answers_does_not_qualify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    monkeypatch.setattr("agents.inference.pool._GRACE_S", 0.1)
    pool = QualifierPool()
    verdict = await pool.qualify(tmp_path, Surroundings(Demands(wall_s=0.1)))
    await pool.close()
    assert verdict.ok is False
    assert "no result" in verdict.reason


async def test_a_bundle_that_is_not_there_is_trouble_not_a_verdict(pool: QualifierPool, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        await pool.qualify(tmp_path / "missing")


def test_the_agent_carries_no_numpy() -> None:
    code = "import sys, agents.main.cli; print([m for m in ('numpy', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
