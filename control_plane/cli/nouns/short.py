"""Commands without a noun: the state of the loop, its diagnosis, and words for what is done most."""

from itertools import islice
from typing import Annotated

import typer
from pydantic import BaseModel

from control_plane.cli.answers import Answer, Change, One, Report
from control_plane.cli.connection import client
from control_plane.cli.doctor import State, examine
from control_plane.cli.nouns import views
from control_plane.cli.output import View, show
from control_plane.cli.workloads import workload_asks
from control_plane.pipelines.schemas import TriggerBody

CHECK = View("name", ("name", "state", "found", "advice"))
LATEST = 5


def status() -> Answer:
    """Say how the loop stands: fleet, baseline, rollouts, runs, open reviews.

    For example: fleetloop status
    """
    c = client("viewer")
    parts: list[tuple[str, View, list[BaseModel]]] = [
        ("fleet", views.FLEET, [*c.fleet_summary()]),
        ("baseline", views.BASELINE, [*c.list_baselines()]),
        ("rollouts under way", views.ROLLOUT, [r for r in islice(c.list_rollouts(), 200) if r.finished_at is None]),
        ("latest runs", views.RUN, [*islice(c.list_runs(), LATEST)]),
        ("questions waiting for people", views.REVIEW, [*c.list_reviews(state="open")]),
    ]

    def tell() -> None:
        for title, view, items in parts:
            show(items, view, title)

    return Report([item for _, _, items in parts for item in items], tell)


def whoami() -> Answer:
    """Say as whom this command line calls, and what they may do.

    For example: fleetloop whoami -o json
    """
    return One(client("viewer").whoami(), views.CALLER)


def doctor() -> Answer:
    """Look at server, token, version, clock, database, trust, disk and Prefect. Exit status 1: something is broken.

    For example: fleetloop doctor
    """
    found = examine()
    broken = any(check.state is State.BROKEN for check in found)
    return Report(found, lambda: show(found, CHECK), key="name", status=1 if broken else 0)


def add(
    workload: Annotated[str, typer.Argument(help="a folder with a workload.yaml, or the name of one of ours")],
    min_events: Annotated[int | None, typer.Option(help="this many new incidents ask for a run")] = None,
    every_s: Annotated[float | None, typer.Option(help="ask for a run this often")] = None,
) -> Answer:
    """Register a workload: its model, gate, device class and pipeline.

    For example: fleetloop add ./my_workload --min-events 50
    """
    name, asks = workload_asks(workload, TriggerBody(min_events=min_events, every_s=every_s))
    done = f"pipeline {name} is there; 'fleetloop runs create {name}' goes round the loop once"
    return Change("admin", asks, done=done)
