"""The last release and this code together: database, servers and agents of each with those of the other, and back."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from control_plane.cli.fleet_host import FieldOptions, FleetHost
from control_plane.cli.processes import free_port
from control_plane.cli.workloads import add_workload
from control_plane.client import Client
from control_plane.pipelines.schemas import RunCreate
from control_plane.registry.schemas import ReleaseCreate
from control_plane.rollout.schemas import PlanBody, RolloutCreate
from tests.e2e.written import write_workload
from tests.upgrade.release import ROOT, unpack

HERE = Path(__file__).parent
ROBOTS, CLASS = 2, "own-robot"
LIMIT_S = 120.0
PLAN = {"stages": [{"fraction": 1.0, "must_prove": False}]}


@contextmanager
def running(tree: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a program of one tree until the block ends."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    command = [sys.executable, *arguments]
    with subprocess.Popen(
        command, env=environment, cwd=tree, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.terminate() if arguments[0] == "-m" else process.stdin.close()  # type: ignore[union-attr]
            process.wait(30)


@dataclass
class Fleet:
    """One home and its robots, whatever code serves them."""

    home: Path
    port: int = field(default_factory=free_port)
    device_port: int = field(default_factory=free_port)

    @property
    def robots(self) -> Path:
        return self.home / "devices"

    @contextmanager
    def served_by(self, tree: Path, *arguments: str) -> Iterator[Client]:
        script = str(HERE / "installation.py")
        with running(tree, script, str(self.home), str(self.port), str(self.device_port), *arguments) as process:
            told = process.stdout.readline()  # type: ignore[union-attr]
            assert Path(told.strip()).is_relative_to(tree), f"not the code of {tree}: {told}"
            token = (self.home / "tokens" / "admin.token").read_text().strip()
            with Client(f"http://127.0.0.1:{self.port}", token) as client:
                yield client

    @contextmanager
    def driven_by(self, tree: Path) -> Iterator[None]:
        with (
            running(tree, str(HERE / "robots.py"), str(self.robots)),
            running(tree, "-m", "agents.main", "host", "--root", str(self.robots)),
        ):
            yield

    def enrol(self, client: Client, spec: dict[str, Any]) -> None:
        stack = SimpleNamespace(home=self.home, device_url=f"https://127.0.0.1:{self.device_port}")
        FleetHost(stack, spec, FieldOptions(ROBOTS, 1, 1.0)).enrol(client, lambda _: None)

    def train(self, client: Client, seed: int) -> tuple[str, str]:
        """Train and gate a version; return its content and its gate."""
        params = {"seed": seed, "promote": "never"}
        run = client.request_run("own", RunCreate(params=params, because="an upgrade"))
        until(lambda: client.get_run(run.id).state in ("done", "failed"), "the run ends")
        done = client.get_run(run.id)
        assert done.state == "done", done.failure
        return str(done.result["candidate"]), str(done.result["gate"])

    def roll_out(self, client: Client, content: str, gate: str) -> None:
        """Release, approve and roll out; return once every robot runs it."""
        released = ReleaseCreate(content_digest=content, device_classes=[CLASS], reason="an upgrade")
        release = client.create_release(released)
        made = client.create_rollout(
            RolloutCreate(release=release.digest, plan=PlanBody.model_validate(PLAN), gate_id=gate)
        )
        self.approve(made.id)
        until(lambda: client.get_rollout(made.id).phase == "done", f"rollout {made.id} is done")
        counted = {line.active_content: line.devices for line in client.fleet_summary()}
        assert counted == {content: ROBOTS}
        driven_m = metres(client, content)
        until(lambda: metres(client, content) > driven_m, "robots report what they run now")

    def approve(self, rollout: str) -> None:
        command = [sys.executable, "-m", "control_plane.cli.app", "approve", rollout, "--reason", "an upgrade"]
        environment = os.environ | {"FLEETLOOP_HOME": str(self.home)}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def until(true: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < give_up, f"never: {what}"
        time.sleep(0.3)


def metres(client: Client, content: str) -> float:
    return sum(line.distance_m for line in client.exposure(content))


def sound(client: Client) -> None:
    """Whoever signed and decided what: the chain holds, and every decision comes out the same with this code."""
    assert client.check_audit().intact
    assert all(client.replay_gate(gate.id).same for gate in client.list_gates())
    assert all(client.replay_rollout(rollout.id).different == 0 for rollout in client.list_rollouts())


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    reason = unpack(folder)
    if reason:
        pytest.skip(reason)
    return folder


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that the database's own user can look into."""
    with tempfile.TemporaryDirectory(prefix="fl-up-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.timeout(400)
def test_two_releases_share_a_database_and_robots(
    old: Path, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    workload = write_workload(tmp_path_factory.mktemp("own"), rollout=PLAN)
    spec = yaml.safe_load((workload / "workload.yaml").read_text())
    fleet = Fleet(home)
    fleet.robots.mkdir()
    with fleet.driven_by(old):
        with fleet.served_by(old) as client:
            add_workload(client, str(workload))
            fleet.enrol(client, spec)
            one, two = fleet.train(client, 1), fleet.train(client, 2)
            fleet.roll_out(client, *one)
        with fleet.served_by(ROOT) as client:  # its start migrates; robots are the release's
            sound(client)
            fleet.roll_out(client, *two)
    with fleet.driven_by(ROOT):
        with fleet.served_by(ROOT) as client:
            fleet.roll_out(client, *one)
        with fleet.served_by(old, "--as-it-is") as client:  # the release's servers on the new database
            fleet.roll_out(client, *two)
        with fleet.served_by(ROOT) as client:
            sound(client)
            fleet.roll_out(client, *one)
