"""A new user's way: start the stack, add a workload of one's own, go round the loop, approve on the command line."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.stack import Stack, StackOptions
from tests.e2e.written import write_workload


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(StackOptions(home=tmp_path_factory.mktemp("home"), orchestrator="subprocess", tick_s=0.3))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_workload(tmp_path_factory.mktemp("own"))


def fleetloop(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"FLEETLOOP_HOME": str(stack.home)}
    for name in ("FLEETLOOP_SERVER", "FLEETLOOP_TOKEN"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-m", "control_plane.cli.app", *arguments],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def asked(stack: Stack, *arguments: str) -> list[dict[str, Any]]:
    done = fleetloop(stack, *arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_new_users_workload_goes_round_the_loop(stack: Stack, workload: Path) -> None:
    added = fleetloop(stack, "add", str(workload))
    assert added.returncode == 0, added.stdout + added.stderr
    run = asked(stack, "run", "own")[0]
    give_up = time.monotonic() + 90
    while run["state"] not in ("done", "failed"):
        assert time.monotonic() < give_up, run
        time.sleep(0.5)
        run = asked(stack, "runs", run["id"])[0]
    assert run["state"] == "done", run["failure"]
    assert run["result"]["verdict"] == "pass"
    waiting = asked(stack, "rollouts", run["result"]["rollout"])[0]
    assert waiting["phase"] in ("draft", "waiting_approval")
    assert asked(stack, "approve", waiting["id"], "--reason", "tried it")[0]["state"] == "approved"
    while (rollout := asked(stack, "rollouts", waiting["id"])[0])["phase"] != "rolling":
        assert time.monotonic() < give_up, rollout
        time.sleep(0.5)
    asked(stack, "halt", waiting["id"], "--reason", "enough seen")
    shards = [job for job in asked(stack, "jobs", "list", "--run", run["id"]) if job["kind"] == "simulate"]
    assert len(shards) == 3
    assert asked(stack, "lineage", "rollout", waiting["id"])[0]["edges"]
    assert asked(stack, "audit", "--check")[0]["intact"]


def test_wrong_use_has_one_clear_line_and_its_own_exit_status(stack: Stack, tmp_path: Path) -> None:
    missing = fleetloop(stack, "rollouts", "roll_nothing")
    assert missing.returncode == 3
    assert "there is no rollout roll_nothing" in missing.stderr
    assert fleetloop(stack, "run", "own", "--params", "{not json").returncode == 2
    unknown = fleetloop(stack, "add", str(tmp_path))
    assert unknown.returncode == 1
    assert "workload.yaml" in unknown.stdout + unknown.stderr


def test_without_a_control_plane_commands_say_how_to_get_one(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FLEETLOOP_")}
    done = subprocess.run(
        [sys.executable, "-m", "control_plane.cli.app", "status"],
        capture_output=True,
        text=True,
        env=environment | {"FLEETLOOP_HOME": str(tmp_path)},
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "fleetloop up" in done.stdout + done.stderr
