"""kill -9 of every process in mid-loop: the loop goes on, nothing acknowledged is lost or counted twice, no finished
shard is run again.

Telemetry is checked against the devices' own spools (tests/support/spools.py).
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from control_plane.cli.fleet_host import FieldOptions, FleetHost
from control_plane.cli.stack import Stack, StackOptions
from control_plane.cli.story import Story
from control_plane.cli.workloads import read_workload
from control_plane.client import Client
from control_plane.factory.schemas import JobItem
from tests.support.spools import Spooled, lost, read_spools, read_streams, twice

WORKLOAD = "warehouse_amr"
ROLES = ("admin", "operator", "approver", "pipeline", "viewer")
WAIT_S = 240.0


def say(text: str, _: float | None = None) -> None:
    print(text[:160], file=sys.stderr)


class Crash:
    """A small fleet and a loop in which every process is killed once."""

    def __init__(self, home: Path) -> None:
        _, spec = read_workload(WORKLOAD)
        self.stack = Stack(StackOptions(home=home, check_in_s=1.5, tick_s=0.5))
        self.stack.start()
        clients = {role: Client(self.stack.url, self.stack.tokens[role], patience_s=90) for role in ROLES}
        host = FleetHost(self.stack, spec, FieldOptions(12, 7, 25.0))
        self.story = Story(self.stack, WORKLOAD, spec, host, 7, clients, lambda *_: None)
        self.killed: list[str] = []

    @property
    def viewer(self) -> Client:
        return self.story.clients["viewer"]

    def until(self, what: str, seen: Callable[[], Any]) -> Any:
        say(f"waiting: {what}")
        give_up = time.monotonic() + WAIT_S
        while not (found := seen()):
            if time.monotonic() > give_up:
                raise TimeoutError(f"never saw {what}")
            time.sleep(0.2)
        return found

    def kill(self, name: str, pid: int) -> None:
        say(f"kill -9 {name} ({pid})")
        os.kill(pid, signal.SIGKILL)
        self.killed.append(name)

    def kill_program(self, name: str) -> None:
        """Kill a program and see its supervisor start it again."""
        starts = self.stack.supervisor.starts(name)
        pid = self.until(f"{name} runs", lambda: self.stack.supervisor.pid(name))
        self.kill(name, pid)
        self.until(
            f"{name} is back", lambda: self.stack.supervisor.starts(name) > starts and self.stack.supervisor.pid(name)
        )

    def jobs(self, **query: Any) -> list[JobItem]:
        return list(self.viewer.list_jobs(**query))

    def process_of(self, words: str) -> int | None:
        for process in psutil.Process().children(recursive=True):
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if words in line and "leash.py" not in " ".join(line):
                return process.pid
        return None

    def run(self) -> dict[str, Any]:
        story = self.story
        story.begin()
        story.first_version()
        story.arm_trigger(40)
        run = story.wait_triggered()
        self._kill_training(run.id)
        self._kill_runner(run.id)
        before = self._kill_servers(run.id)
        story.finish_run("v2", run)
        after = {job.key: job for job in self.jobs(run_id=run.id)}
        self.kill_program("agents")
        if story.improved:
            story.roll_out_improved()
        self._drain()
        return {"before": before, "after": after, "run": story.runs["v2"]}

    def _kill_training(self, run_id: str) -> None:
        self.until("a training job runs", lambda: self.jobs(run_id=run_id, state="running"))
        pid = self.until(
            "its process",
            lambda: (
                self.process_of("flows.workloads.warehouse_amr.relabel")
                or self.process_of("flows.workloads.warehouse_amr.train")
            ),
        )
        self.kill("training job", pid)
        self.until("it is tried again", lambda: [j for j in self.jobs(run_id=run_id) if j.attempt == 2])

    def _kill_runner(self, run_id: str) -> None:
        """Kill Prefect's runner and the flow with it; the control plane asks for the run again."""
        self.until("a job is done", lambda: self.jobs(run_id=run_id, state="done"))
        flow = self.process_of("prefect.engine")
        self.kill_program("runner")
        if flow is not None and psutil.pid_exists(flow):
            self.kill("flow", flow)
        self.until("the run is asked for again", lambda: self.viewer.get_run(run_id).attempt == 2)
        self.until("and goes on", lambda: self.viewer.get_run(run_id).state == "running")

    def _kill_servers(self, run_id: str) -> dict[str, JobItem]:
        """Kill API, worker, agents and field while shards are simulated; return what was finished before."""
        self.until(
            "shards are finished", lambda: [j for j in self.jobs(run_id=run_id, state="done") if j.kind == "simulate"]
        )
        before = {job.key: job for job in self.jobs(run_id=run_id, state="done")}
        for name in ("api", "devices", "worker", "agents", "field"):
            self.kill_program(name)
        return before

    def _drain(self) -> None:
        """Stop the robots and let the agents send what is left."""
        self.stack.supervisor.stop("field")
        self.until("spools are empty", lambda: all(spool.rows == 0 for spool in self.spools()))
        time.sleep(2)

    def spools(self) -> list[Spooled]:
        return read_spools(self.stack.home / "devices")

    def server_streams(self) -> list[dict[str, Any]]:
        return read_streams(self.stack.database_url or "")

    def stop(self) -> None:
        self.stack.stop()


def prove() -> Iterator[dict[str, Any]]:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fl-crash-") as name:
        crash = Crash(Path(name))
        try:
            told = crash.run()
            streams, spools = crash.server_streams(), crash.spools()
            audit = crash.viewer.check_audit()
        finally:
            crash.stop()
    seconds = round(time.monotonic() - begun, 1)
    yield from lines(crash, told, streams, spools, intact=audit.intact, seconds=seconds)


def lines(
    crash: Crash,
    told: dict[str, Any],
    streams: list[dict[str, Any]],
    spools: list[Spooled],
    *,
    intact: bool,
    seconds: float,
) -> Iterator[dict[str, Any]]:
    def line(what: str, figure: object, unit: str, bound: str, *, ok: bool) -> dict[str, Any]:
        return {"proof": f"crash: {what}", "figure": figure, "unit": unit, "bound": bound, "ok": ok, "seconds": seconds}

    doubled, missing = twice(streams), lost(streams, spools)
    repeated = [
        key
        for key, job in told["before"].items()
        if (told["after"][key].attempt, told["after"][key].finished_at) != (job.attempt, job.finished_at)
    ]
    killed = len(set(crash.killed))
    yield line("kinds of process killed in mid-loop", killed, "kinds", ">= 6", ok=killed >= 6)
    yield line(
        "the run ends", told["run"].state, f"in attempt {told['run'].attempt}", "done", ok=told["run"].state == "done"
    )
    yield line(
        "acknowledged telemetry counted twice",
        doubled,
        f"of {sum(s['rows'] for s in streams)} rows",
        "0",
        ok=doubled == 0 and bool(streams),
    )
    yield line("acknowledged telemetry lost", missing, "rows", "0", ok=missing == 0)
    yield line("finished jobs run again", len(repeated), f"of {len(told['before'])}", "0", ok=not repeated)
    yield line("audit chain intact", "yes" if intact else "no", "", "yes", ok=intact)
