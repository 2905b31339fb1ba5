"""The whole demo on the production layout (tests/support/whole), with SIGKILL for each of its processes.

Two API processes for people, two for devices, two workers, Prefect's server (on PostgreSQL) and runner, PostgreSQL,
Ceph's radosgw, nginx with mutual TLS, simulation on a Ray of two nodes, training through a Slurm of two nodes; then the
drill of a restore.
`python -m tests.proofs.beyond_whole --calm --home /tmp/h` goes round without killing anything, and keeps its logs.
"""

import json
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from control_plane.cli.demo import ROLES, DemoOptions, Teller, tell
from control_plane.cli.demo_report import build_report
from control_plane.cli.fleet_host import FieldOptions, FleetHost
from control_plane.cli.story import Story
from control_plane.cli.workloads import read_workload
from control_plane.client import Client
from control_plane.factory.schemas import JobItem
from tests.clusters.processes import until
from tests.support.spools import Spooled, lost, read_spools, read_streams, twice
from tests.support.whole import Whole, why_not
from tests.support.whole.drill import Drilled, drill
from tests.support.whole.victims import Kill, Killer

PATIENCE = 6.0  # two cores carry some forty processes
OUTAGE_S = 180.0


@dataclass
class Told:
    """What came of going round once."""

    seconds: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)
    kills: list[Kill] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    jobs: list[JobItem] = field(default_factory=list)
    streams: list[dict[str, Any]] = field(default_factory=list)
    spools: list[Spooled] = field(default_factory=list)
    drilled: Drilled | None = None
    undone: str = ""


def go_round(home: Path, *, kills: bool, seed: int = 1) -> Told:
    _, spec = read_workload("warehouse_amr")
    whole, told, begun = Whole(home), Told(), time.monotonic()
    try:
        whole.start()
        clients = {role: Client(whole.url, whole.tokens[role], patience_s=OUTAGE_S) for role in ROLES}
        host = FleetHost(whole, spec, FieldOptions(36, seed, 25.0))
        with Teller(Console(stderr=True)) as teller:
            story = Story(whole, "warehouse_amr", spec, host, seed, clients, teller.say, patience=PATIENCE)
            killer = Killer(whole, lambda: _step(story))
            if kills:
                killer.start()
            tell(story, teller, DemoOptions(home=home, seed=seed))
            killer.join()
        told.kills, told.left = killer.kills, killer.left
        _drain(whole, home / "devices")
        told.report = build_report(story, time.monotonic() - begun, seed)
        told.jobs = list(clients["viewer"].list_jobs())
        told.streams, told.spools = read_streams(whole.database.url), read_spools(home / "devices")
        told.seconds = round(time.monotonic() - begun, 1)
        whole.supervisor.again("field")
        try:
            told.drilled = drill(whole, story, home / "backups")
        except Exception as error:  # noqa: BLE001 - what came before is told all the same
            told.undone = f"{type(error).__name__}: {error}"[-2000:]
    finally:
        whole.stop()
    return told


def _step(story: Story) -> str:
    return f"after {list(story.seconds)[-1]}" if story.seconds else "at the start"


def _drain(whole: Whole, devices: Path) -> None:
    """Stop the robots and let the agents send what is left."""
    whole.supervisor.stop("field")
    until(lambda: all(spool.rows == 0 for spool in read_spools(devices)), OUTAGE_S, "spools are empty")


def run() -> Iterator[dict[str, Any]]:
    reason = why_not()
    if reason:
        print(f"beyond: the whole layout is not proven here: {reason}", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="fl-w-", ignore_cleanup_errors=True) as folder:
        told = go_round(Path(folder) / "h", kills=True)
    yield from lines(told)


def lines(told: Told) -> Iterator[dict[str, Any]]:
    never = [kill.name for kill in told.kills if kill.back_s is None]
    report, checks = told.report, told.report["checks"]
    yield {
        "proof": "beyond: the demo on the production layout while each of its processes is killed once",
        "ok": report["ok"] and not told.left and not never,
        "bound": "all checks of the demo, every process back, none left out",
        "figures": {
            "checks": f"{sum(checks.values())} of {len(checks)}",
            "killed": len(told.kills),
            "left_out": told.left,
            "never_back": never,
            "slowest_back_s": max((kill.back_s or 0 for kill in told.kills), default=0),
            "seconds": told.seconds,
        },
        "matrix": [f"{kill.name} {kill.step}: back after {kill.back_s} s" for kill in told.kills],
        "failed_checks": [name for name, ok in checks.items() if not ok],
    }
    doubled, missing = twice(told.streams), lost(told.streams, told.spools)
    yield {
        "proof": "beyond: telemetry over these kills",
        "ok": doubled == missing == 0 and bool(told.streams),
        "bound": "every row that a robot ever wrote is stored, once",
        "figures": {"rows": sum(each["rows"] for each in told.streams), "twice": doubled, "lost": missing},
    }
    yield {
        "proof": "beyond: jobs over these kills",
        "ok": _where(told.jobs) and all(job.state == "done" for job in told.jobs),
        "bound": "all are done, training on Slurm, simulation on Ray",
        "figures": {
            "jobs": len(told.jobs),
            "of_them_done": sum(job.state == "done" for job in told.jobs),
            "attempts": sum(job.attempt for job in told.jobs),
            "places": dict(Counter(f"{job.kind} on {job.cluster}" for job in told.jobs)),
        },
    }
    yield drill_line(told.drilled, told.undone)


def drill_line(drilled: Drilled | None, undone: str) -> dict[str, Any]:
    saved, lost_revision, after = drilled.revisions if drilled else (0, 0, 0)
    went_on = drilled is not None and drilled.deleted > 0 and drilled.rollout == "done"
    return {
        "proof": "beyond: restore drill: database and bucket deleted while robots drive, restored from a backup",
        "ok": went_on and after > lost_revision > saved,
        "bound": "every robot checks in again, TUF goes on above what was lost, a release reaches every robot",
        "figures": asdict(drilled) if drilled else {"undone": undone},
    }


def _where(jobs: Sequence[JobItem]) -> bool:
    places = {(job.kind, job.cluster) for job in jobs}
    return {"slurm"} == {c for k, c in places if k == "train"} and {"ray"} == {c for k, c in places if k == "simulate"}


def main(arguments: Sequence[str]) -> None:
    reason = why_not()
    if reason:
        sys.exit(reason)
    options = ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--calm", action="store_true", help="kill nothing")
    options.add_argument("--home", type=Path, help="keep everything in this folder (a short path)")
    given = options.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fl-w-", ignore_cleanup_errors=True) as made:
        for line in lines(go_round(given.home or Path(made) / "h", kills=not given.calm)):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
