"""Commands that ask the control plane and tell it things; each is a few lines over `control_plane.client`."""

import json
import os
from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from control_plane.access.schemas import TokenCreate
from control_plane.cli.output import console, guarded, show, show_one
from control_plane.cli.stack import default_home
from control_plane.cli.workloads import add_workload
from control_plane.client import Client, ClientError
from control_plane.fleet.schemas import EnrolmentTokenCreate
from control_plane.kit.roles import Role
from control_plane.pipelines.schemas import RunCreate, TriggerBody
from control_plane.review.domain import ReviewState
from control_plane.review.schemas import ReviewAnswerCreate
from control_plane.rollout.schemas import RolloutWish

Json = Annotated[bool, typer.Option("--json", help="print JSON, one object a line")]
Reason = Annotated[str, typer.Option(help="why; it goes to the audit trail")]
MOST = 200
Item = TypeVar("Item")


@cache
def client(role: str = "operator") -> Client:
    """Return a client for FLEETLOOP_SERVER and FLEETLOOP_TOKEN, else for the installation in FLEETLOOP_HOME."""
    server, token = os.environ.get("FLEETLOOP_SERVER"), os.environ.get("FLEETLOOP_TOKEN")
    home = _running_home()
    if server is None and home is not None:
        server = json.loads((home / "stack.json").read_text())["url"]
    if token is None and home is not None:
        token = (home / "tokens" / f"{role}.token").read_text().strip()
    if not server or not token:
        raise typer.BadParameter("no control plane: start 'fleetloop up', or set FLEETLOOP_SERVER and FLEETLOOP_TOKEN")
    return Client(server, token, patience_s=5)


def _running_home() -> Path | None:
    for home in (default_home(), default_home() / "demo"):
        if (home / "stack.json").exists():
            return home
    return None


def status(as_json: Json = False) -> None:
    """Say how the loop stands: fleet, baseline, rollouts, runs, open reviews."""

    def command() -> None:
        c = client("viewer")
        show(c.fleet_summary(), ("device_class", "site", "active_content", "devices"), as_json=as_json, title="fleet")
        show(
            c.list_baselines(),
            ("device_class", "content_digest", "counter", "since"),
            as_json=as_json,
            title="baseline",
        )
        live = [r for r in first(c.list_rollouts()) if r.finished_at is None]
        show(live, ("id", "phase", "stage", "because"), as_json=as_json, title="rollouts under way")
        show(first(c.list_runs(), 5), ("id", "pipeline", "state", "because"), as_json=as_json, title="latest runs")
        show(
            first(c.list_reviews(state="open")),
            ("id", "question", "asked_at"),
            as_json=as_json,
            title="questions waiting for people",
        )

    guarded(command)


def models(
    name: Annotated[str | None, typer.Argument(help="list this model's versions")] = None, as_json: Json = False
) -> None:
    """List models, or the versions of one."""
    columns = ("version", "label", "content_digest", "parent", "dataset", "created_at")
    guarded(
        lambda: (
            show(client("viewer").list_versions(name), columns, as_json=as_json)
            if name
            else show(client("viewer").list_models(), ("name", "title", "exposure", "created_at"), as_json=as_json)
        )
    )


def gates(as_json: Json = False) -> None:
    """List what the gate said, and why."""
    guarded(
        lambda: show(
            first(client("viewer").list_gates()),
            ("id", "candidate", "champion", "verdict", "because"),
            as_json=as_json,
        )
    )


def runs(
    run_id: Annotated[str | None, typer.Argument(help="show this one with its steps and jobs")] = None,
    as_json: Json = False,
) -> None:
    """List runs, or show one."""

    def command() -> None:
        c = client("viewer")
        if run_id is None:
            show(
                first(c.list_runs()),
                ("id", "pipeline", "state", "attempt", "because", "requested_at"),
                as_json=as_json,
            )
            return
        show_one(c.get_run(run_id), as_json=as_json)
        show(
            first(c.list_jobs(run_id=run_id)),
            ("key", "kind", "subject", "state", "wall_s", "usd", "failure"),
            as_json=as_json,
        )

    guarded(command)


def lineage(
    kind: Annotated[str, typer.Argument(help="device, field_event, recording, dataset, model_version, release, ...")],
    name: Annotated[str, typer.Argument(help="its id or digest")],
    direction: Annotated[str, typer.Option(help="up: what it came from; down: what was made of it")] = "up",
    depth: Annotated[int, typer.Option(min=1, max=50)] = 8,
    as_json: Json = False,
) -> None:
    """Walk what was made from what, for example: fleetloop lineage device dev_01 --direction up."""

    def command() -> None:
        graph = client("viewer").lineage(kind, name, direction, depth)
        if as_json:
            typer.echo(graph.model_dump_json())
            return
        for edge in graph.edges[:MOST]:
            console.print(
                f"{edge.target.kind}:{edge.target.name[:16]} [dim]{edge.relation}[/dim] "
                f"{edge.source.kind}:{edge.source.name[:16]}",
                highlight=False,
            )
        if len(graph.edges) > MOST or graph.truncated:
            console.print(f"… {len(graph.edges)} edges; --json prints all of them")

    guarded(command)


def reviews(as_json: Json = False) -> None:
    """List questions waiting for people."""
    guarded(
        lambda: show(
            first(client("viewer").list_reviews(state="open")),
            ("id", "kind", "question", "needed", "asked_at"),
            as_json=as_json,
        )
    )


def answer(
    review: Annotated[str, typer.Argument(help="a review's id, or the release or rollout it is about")],
    reason: Reason = "",
    reject: Annotated[bool, typer.Option("--reject", help="say no instead")] = False,
    as_json: Json = False,
) -> None:
    """Answer a question put to people, for example that of a rollout that cannot decide. To sign a release: approve."""

    def command() -> None:
        c = client("approver")
        found = [r for r in c.list_reviews(state="open") if review in (r.id, r.subject, r.evidence.get("rollout"))]
        if not found:
            raise ClientError(404, "not_found", f"no open review is about {review}")
        item = c.answer_review(found[0].id, ReviewAnswerCreate(approves=not reject, reason=reason))
        show_one(item, as_json=as_json)
        raise typer.Exit(0 if item.state in (ReviewState.APPROVED, ReviewState.OPEN) or reject else 1)

    guarded(command)


def wish(rollout_id: str, action: str, reason: str, *, as_json: bool) -> None:
    body = RolloutWish.model_validate({"action": action, "reason": reason})
    guarded(lambda: show_one(client().wish_rollout(rollout_id, body), as_json=as_json))


def halt(rollout_id: str, reason: Annotated[str, typer.Option(help="why", prompt=True)], as_json: Json = False) -> None:
    """Halt a rollout: its release is withdrawn and devices that have it go back."""
    wish(rollout_id, "halt", reason, as_json=as_json)


def pause(
    rollout_id: str, reason: Annotated[str, typer.Option(help="why", prompt=True)], as_json: Json = False
) -> None:
    """Pause a rollout: nobody new is offered the release."""
    wish(rollout_id, "pause", reason, as_json=as_json)


def resume(
    rollout_id: str, reason: Annotated[str, typer.Option(help="why", prompt=True)], as_json: Json = False
) -> None:
    """Let a paused rollout go on."""
    wish(rollout_id, "resume", reason, as_json=as_json)


def proceed(
    rollout_id: str, reason: Annotated[str, typer.Option(help="why", prompt=True)], as_json: Json = False
) -> None:
    """Let a held rollout pass its stage although the evidence does not decide."""
    wish(rollout_id, "proceed", reason, as_json=as_json)


def run(
    pipeline: str,
    because: Annotated[str, typer.Option(help="why now")] = "asked for by a person",
    params: Annotated[str, typer.Option(help="parameters as JSON, over the pipeline's own")] = "{}",
    as_json: Json = False,
) -> None:
    """Ask for a run of a pipeline, for example: fleetloop run warehouse_amr --params '{"recipe": "replay_only"}'."""
    try:
        given = json.loads(params)
    except ValueError as error:
        raise typer.BadParameter(f"--params is not JSON: {error}") from error
    guarded(lambda: show_one(client().request_run(pipeline, RunCreate(because=because, params=given)), as_json=as_json))


def add(
    workload: Annotated[str, typer.Argument(help="a folder with a workload.yaml, or the name of one of ours")],
    min_events: Annotated[int | None, typer.Option(help="this many new incidents ask for a run")] = None,
    every_s: Annotated[float | None, typer.Option(help="ask for a run this often")] = None,
) -> None:
    """Register a workload: its model, gate, device class and pipeline."""

    def command() -> None:
        name = add_workload(client("admin"), workload, TriggerBody(min_events=min_events, every_s=every_s))
        console.print(f"pipeline {name} is there; 'fleetloop run {name}' goes round the loop once")

    guarded(command)


def enrolment_token(
    device_class: str,
    site: Annotated[str | None, typer.Option()] = None,
    serial: Annotated[str | None, typer.Option()] = None,
    ttl_s: Annotated[float, typer.Option(min=1, max=86400)] = 3600,
    as_json: Json = False,
) -> None:
    """Make a single-use token with which one device may enrol."""
    body = EnrolmentTokenCreate(device_class=device_class, site=site, serial=serial, ttl_s=ttl_s)
    guarded(lambda: show_one(client().create_enrolment_token(body), as_json=as_json))


def token(
    name: Annotated[str, typer.Argument(help="who will call with it")],
    role: Annotated[Role, typer.Option(help="what it may do")] = Role.VIEWER,
    revoke: Annotated[bool, typer.Option("--revoke", help="revoke this name's token instead")] = False,
    as_json: Json = False,
) -> None:
    """Make an API token with a role, or revoke one, for example: fleetloop token ada --role approver."""

    def command() -> None:
        if revoke:
            client("admin").revoke_token(name)
            console.print(f"the token of {name} is revoked")
            return
        show_one(client("admin").create_token(TokenCreate(name=name, role=role)), as_json=as_json)

    guarded(command)


def tokens(as_json: Json = False) -> None:
    """List who has an API token."""
    columns = ("name", "role", "created_at", "revoked_at", "last_used_at")
    guarded(lambda: show(client("admin").list_tokens(), columns, as_json=as_json))


def audit(
    check: Annotated[bool, typer.Option("--check", help="walk the chain and say whether it is intact")] = False,
    as_json: Json = False,
) -> None:
    """List who did what and why, newest first."""
    guarded(
        lambda: (
            show_one(client("viewer").check_audit(), as_json=as_json)
            if check
            else show(
                first(client("viewer").list_audit()),
                ("seq", "at", "actor", "action", "subject", "because"),
                as_json=as_json,
            )
        )
    )


def ledger(
    by: Annotated[str, typer.Option(help="kind, run, cluster or subject")] = "kind", as_json: Json = False
) -> None:
    """Add up cost and energy of jobs; figures that were not measured are marked as estimates."""
    guarded(
        lambda: show(
            client("viewer").ledger(by).lines,
            ("name", "jobs", "wall_s", "cpu_s", "usd", "energy_j", "energy_is_estimate"),
            as_json=as_json,
        )
    )


def first(items: Iterable[Item], most: int = MOST) -> list[Item]:
    """Return as many as fit a screen that can be read."""
    return list(islice(items, most))


COMMANDS = (
    status,
    models,
    gates,
    runs,
    lineage,
    reviews,
    answer,
    halt,
    pause,
    resume,
    proceed,
    run,
    add,
    enrolment_token,
    token,
    tokens,
    audit,
    ledger,
)
