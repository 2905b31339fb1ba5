"""A candidate beside the active model: a robot application, an agent's shadow and a candidate, each a real process."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from agents.inference import Demands, DeviceShadow, ShadowVerdict, Surroundings
from agents.platform.energy import SimulatedMeter
from agents.sdk import StateDir
from tests.agent import onnx_files as bad
from tests.agent.bundles import files
from tests.agent.onnx_files import bundle

DIGEST = "a" * 64
EVENTS = {
    "min_decisions": 30,
    "rtol": 0.01,
    "atol": 0.01,
    # The first output is 2 x in [-2, 2]: the active model sees an event in about one decision of four.
    "events": [{"name": "stop", "output": "y", "index": 0, "above": 1.0}],
}
DEMANDS = Demands(wall_s=60)


@contextmanager
def robot(
    state: Path, model: dict[str, bytes] | None = None, *more: str, digest: str = DIGEST
) -> Iterator["subprocess.Popen[str]"]:
    """Run a robot application with an active model that doubles."""
    (state / "device.json").write_text(json.dumps({"device_id": "d-1", "site": "hall", "device_class": "test"}))
    active = bundle(state / "active-bundle", model or files(2.0))
    command = [sys.executable, "-m", "tests.agent.shadow_robot", str(state), str(active), digest, *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


async def tried(state: Path, candidate: dict[str, bytes], duration_s: float = 2.5, **around: Any) -> ShadowVerdict:
    shadow = DeviceShadow(StateDir(state).signals, Surroundings(**{"demands": DEMANDS, **around}), first_word_s=3.0)
    return await shadow.shadow(bundle(state / "candidate", candidate), DIGEST, duration_s)


def rules(**changes: Any) -> dict[str, Any]:
    return {"shadow": {**EVENTS, **changes}}


async def test_a_candidate_that_decides_alike_passes(tmp_path: Path) -> None:
    with robot(tmp_path):
        verdict = await tried(tmp_path, files(2.001, contract=rules()), meter=lambda: SimulatedMeter(90.0, 0.04))
    assert verdict.outcome == "passed", verdict
    numbers = verdict.numbers
    assert numbers["shadow_decisions"] >= 30
    assert numbers["shadow_disagreed"] == 0
    assert numbers["shadow_active_events"] > 0
    assert 0 < numbers["shadow_p50_ms"] <= numbers["shadow_p99_ms"]
    assert numbers["shadow_cpu_s"] > 0
    assert numbers["shadow_joules_per_decision"] == pytest.approx(0.04, rel=1e-3)
    assert list(StateDir(tmp_path).signals.iterdir()) == []  # nobody is asked any more


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (files(2.5, contract=rules(events=[])), "shadow_disagrees"),
        (files(1.0, contract=rules(rtol=10)), "shadow_misses"),
        (files(4.0, contract=rules(rtol=10)), "shadow_phantoms"),
        (files(2.0, contract=rules(deadline_ms=1e-6)), "shadow_late"),
        (files(2.0, contract=rules(events=[{"name": "e", "output": "y", "index": 9}])), "shadow_failed"),
        ({**files(contract=rules()), "model.onnx": bad.foreign()}, "shadow_failed"),
    ],
)
async def test_a_candidate_that_decides_otherwise_is_blocked(
    tmp_path: Path, candidate: dict[str, bytes], reason: str
) -> None:
    with robot(tmp_path):
        verdict = await tried(tmp_path, candidate)
    assert (verdict.outcome, verdict.reason) == ("blocked", reason), verdict


async def test_a_candidate_that_never_answers_is_ended_and_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = {"shadow": {**EVENTS, "events": []}}
    with robot(tmp_path):
        asked = Surroundings(demands=Demands(build_s=1.0))
        shadow = DeviceShadow(StateDir(tmp_path).signals, asked, first_word_s=3.0)
        candidate = bundle(tmp_path / "candidate", {**files(contract=contract), "model.onnx": bad.loop_bomb()})
        monkeypatch.setattr("agents.inference.shadows._GRACE_S", 1.0)
        began_s = time.monotonic()
        verdict = await shadow.shadow(candidate, DIGEST, 2.0)
    assert verdict.outcome != "passed"
    assert time.monotonic() - began_s < 20


async def test_no_samples_are_no_evidence(tmp_path: Path) -> None:
    verdict = await tried(tmp_path, files(contract=rules()), 0.5)
    assert (verdict.outcome, verdict.reason) == ("held", "shadow_no_samples")


async def test_samples_of_another_model_are_no_evidence(tmp_path: Path) -> None:
    with robot(tmp_path):
        shadow = DeviceShadow(StateDir(tmp_path).signals, Surroundings(DEMANDS), first_word_s=2.0)
        verdict = await shadow.shadow(bundle(tmp_path / "c", files(contract=rules())), "b" * 64, 1.0)
    assert (verdict.outcome, verdict.reason) == ("held", "shadow_no_samples")


async def test_too_few_samples_are_no_evidence_even_against(tmp_path: Path) -> None:
    with robot(tmp_path):
        verdict = await tried(tmp_path, files(9.0, contract=rules(min_decisions=100_000)))
    assert (verdict.outcome, verdict.reason) == ("held", "shadow_too_few_samples")


async def test_inputs_the_application_does_not_have_are_no_evidence(tmp_path: Path) -> None:
    spec = {"name": "x", "dtype": "float32", "shape": ["N", 3], "unit": "1"}
    content = {
        **files(contract={**rules(events=[]), "inputs": [{**spec, "name": "z"}]}),
        "model.onnx": bad.other_input(),
    }
    with robot(tmp_path):
        verdict = await tried(tmp_path, content)
    assert (verdict.outcome, verdict.reason) == ("held", "shadow_inputs_differ"), verdict


async def test_it_stops_itself_when_the_active_model_becomes_slower(tmp_path: Path) -> None:
    with robot(tmp_path, None, "--slower-ms", "3", "--slower-after-s", "4"):
        began_s = time.monotonic()
        verdict = await tried(tmp_path, files(2.0, contract=rules()), 12.0)
        took_s = time.monotonic() - began_s
    # Three of the twelve seconds are the baseline.
    assert (verdict.outcome, verdict.reason) == ("held", "shadow_stopped_slows_active"), verdict
    assert took_s < 11
    assert verdict.numbers["shadow_active_p99_ms"] > verdict.numbers["shadow_active_p99_before_ms"] + 2


async def test_killing_the_shadow_harms_nobody(tmp_path: Path) -> None:
    with robot(tmp_path) as application:
        task = asyncio.create_task(tried(tmp_path, files(contract=rules()), 20.0))
        child = await _candidate(application.pid)
        os.kill(child.pid, signal.SIGKILL)
        verdict = await task
        assert application.poll() is None
    assert (verdict.outcome, verdict.reason) == ("held", "shadow_interrupted")


async def test_a_shadow_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    # A database server of other tests may run beside it.
    before = {each.pid for each in psutil.Process().children(recursive=True)}
    with robot(tmp_path) as application:
        task = asyncio.create_task(tried(tmp_path, files(contract=rules()), 20.0))
        await _candidate(application.pid)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = {each.pid for each in psutil.Process().children(recursive=True)}
        assert left - before == {application.pid}
        assert not StateDir(tmp_path).signals.joinpath("shadow.json").exists()


async def _candidate(application: int) -> psutil.Process:
    """Return the process that the worker forked for the candidate, once it is there."""
    own, until_s = psutil.Process(), time.monotonic() + 20
    while time.monotonic() < until_s:
        for each in own.children(recursive=True):
            if each.pid != application and each.ppid() != own.pid:
                return each
        await asyncio.sleep(0.05)
    raise AssertionError("no child appeared")
