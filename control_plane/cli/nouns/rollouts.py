"""`fleetloop rollouts`: list, show, make, steer, explain and replay them."""

from typing import Annotated

import typer

from control_plane.cli import completion
from control_plane.cli.answers import Answer, Change, Items, One, Report
from control_plane.cli.command import DryRun, Noun, Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.cli.output import say
from control_plane.cli.plans import read_fractions, tell_forecast, window_of
from control_plane.cli.watching import watch
from control_plane.client import Calls
from control_plane.rollout.domain import Control
from control_plane.rollout.schemas import (
    Explanation,
    PlanBody,
    RolloutCreate,
    RolloutPlan,
    RolloutReplay,
    RolloutWish,
    stage_bodies,
)

rollouts = typer.Typer(cls=Noun, help="Rollouts: releases on their way to devices.")
verb = Verb(rollouts)
Id = Annotated[str, typer.Argument(help="the rollout's id", autocompletion=completion.rollouts)]
Reason = Annotated[str, typer.Option(help="why; it goes to the audit trail", prompt=True)]


@verb("list", watched=True)
def list_rollouts() -> Answer:
    """List rollouts, newest first.

    For example: fleetloop rollouts list --watch
    """
    return Items(client("viewer").list_rollouts(), views.ROLLOUT)


def get_rollout(rollout_id: Id) -> Answer:
    """Show a rollout, how its devices stand, and what was decided about it.

    For example: fleetloop rollouts get roll_01
    """
    c = client("viewer")

    def below() -> list[Items]:
        return [
            Items(c.tally_rollout(rollout_id), views.TALLY, "devices"),
            Items(c.rollout_decisions(rollout_id)[-20:], views.DECISION, "decisions"),
        ]

    return One(c.get_rollout(rollout_id), views.ROLLOUT, below)


verb("get", watched=True)(get_rollout)
verb("show", watched=True, hidden=True)(get_rollout)


@verb("watch")
def watch_rollout(rollout_id: Id, every: Annotated[float, typer.Option(min=0.1, help="seconds")] = 2.0) -> Answer:
    """Look at a rollout again and again until Ctrl-C; the same as get --watch.

    For example: fleetloop rollouts watch roll_01
    """
    raise typer.Exit(watch(lambda: get_rollout(rollout_id), every))


@verb("decisions", watched=True)
def decisions(rollout_id: Id) -> Answer:
    """List what was decided about a rollout, oldest first.

    For example: fleetloop rollouts decisions roll_01 -o json
    """
    return Items(client("viewer").rollout_decisions(rollout_id), views.DECISION)


@verb("devices", watched=True)
def devices(rollout_id: Id) -> Answer:
    """List a rollout's devices and how each stands.

    For example: fleetloop rollouts devices roll_01
    """
    return Items(client("viewer").list_deployments(rollout_id), views.DEPLOYMENT)


@verb("explain", watched=True)
def explain_rollout(rollout_id: Id) -> Answer:
    """Say in words how a rollout stands, on what evidence, and what would move it.

    For example: fleetloop rollouts explain roll_01
    """
    return explained(client("viewer").explain_rollout(rollout_id))


def explained(said: Explanation) -> Report:
    return Report([said], lambda: say("\n".join(said.lines)), key="subject")


@verb("replay")
def replay_rollout(rollout_id: Id) -> Answer:
    """Make every kept decision again from what was kept of it; exit 1 if one comes out otherwise.

    For example: fleetloop rollouts replay roll_01
    """
    made = client("viewer").replay_rollout(rollout_id)
    return Report([made], lambda: _tell_replay(made), status=1 if made.different else 0)


def _tell_replay(made: RolloutReplay) -> None:
    for item in made.items:
        if item.differs:
            say(f"decision {item.number} differs in {', '.join(item.differs)}: {item.because}")
    say(f"{made.decisions} decisions made again, {made.different} came out otherwise")


@verb("plan")
def plan_rollout(
    model: Annotated[str, typer.Argument(help="the model to be rolled out", autocompletion=completion.models)],
    device_class: Annotated[list[str], typer.Option(help="to which classes; may be given several times")],
    site: Annotated[list[str] | None, typer.Option(help="only to these sites")] = None,
    stages: Annotated[str, typer.Option(help="fractions of the fleet")] = "0.1,0.5,1.0",
    max_exposure: Annotated[float, typer.Option(help="canary exposure per stage, in the model's unit")] = 20_000,
    days: Annotated[float, typer.Option(help="deadline of each stage, in days")] = 7,
    margin: Annotated[float, typer.Option(help="the rate may be at most 1 + margin times control's")] = 1.0,
    power: Annotated[float, typer.Option(min=0.5, max=0.99, help="how sure to be")] = 0.8,
    release: Annotated[
        str | None, typer.Option(help="warn of what speaks against this release", autocompletion=completion.releases)
    ] = None,
) -> Answer:
    """Say what a plan needs on this fleet, by its own rates, to see 1.5, 2 and 3 times the events.

    For example: fleetloop rollouts plan warehouse-amr-drive --device-class sim-amr --stages 0.25,1.0
    """
    body = PlanBody(stages=stage_bodies(read_fractions(stages), max_exposure, days), margin=margin)
    asked = RolloutPlan(model=model, device_classes=device_class, plan=body, sites=site, power=power, release=release)
    found = client("viewer").plan_rollout(asked)
    return Report([found], lambda: tell_forecast(found))


def create_rollout(
    release: Annotated[str, typer.Argument(help="release digest", autocompletion=completion.releases)],
    gate: Annotated[str | None, typer.Option(help="the gate that judged it", autocompletion=completion.gates)] = None,
    stages: Annotated[str, typer.Option(help="fractions of the fleet")] = "0.1,0.5,1.0",
    max_exposure: Annotated[float, typer.Option(help="canary exposure per stage, in the model's unit")] = 20_000,
    override_reason: Annotated[str, typer.Option(help="start although the gate did not pass, and why")] = "",
    override_plan: Annotated[str, typer.Option(help="start although a stage cannot decide, and why")] = "",
    safe_state: Annotated[str, typer.Option(help='e.g. "stopped and battery >= 30"; what must hold to switch')] = "",
    site_budget: Annotated[int | None, typer.Option(help="how many devices of a site may be out at once")] = None,
    cell_budget: Annotated[int | None, typer.Option(help="how many of those with one label 'cell' may")] = None,
    window: Annotated[
        list[str] | None, typer.Option(help='when to switch: "Europe/Berlin 22:00-05:00 mon,tue", several times')
    ] = None,
    shadow_s: Annotated[float, typer.Option(help="how long to run beside the active model first")] = 0.0,
    control: Annotated[Control, typer.Option(help="what canaries are compared with")] = Control.CONCURRENT,
    *,
    preempt: Annotated[bool, typer.Option(help="halt what is under way on these devices")] = False,
    dry_run: DryRun = False,
) -> Answer:
    """Plan a release's way to devices. With --dry-run the server says what the plan needs, and makes nothing.

    For example: fleetloop rollouts create RELEASE --gate GATE --stages 0.1,1.0
    """
    plan = PlanBody(
        stages=stage_bodies(read_fractions(stages), max_exposure),
        safe_state=safe_state,
        site_budget=site_budget,
        cell_budget=cell_budget,
        windows=[window_of(text) for text in window or ()],
        shadow_s=shadow_s,
        control=control,
    )
    body = RolloutCreate(
        release=release,
        gate_id=gate,
        plan=plan,
        override_reason=override_reason,
        plan_override=override_plan,
        preempt=preempt,
    )
    return _forecast(body) if dry_run else Change("operator", [Calls.create_rollout.ask(body)], views.ROLLOUT)


def _forecast(body: RolloutCreate) -> Report:
    c = client("viewer")
    release = c.get_release(body.release)
    asked = RolloutPlan(
        model=release.model,
        device_classes=release.device_classes,
        plan=body.plan,
        sites=body.sites,
        release=release.digest,
    )
    found = c.plan_rollout(asked)
    return Report([found], lambda: tell_forecast(found))


verb("create", changes=True)(create_rollout)


def _wish(rollout_id: str, action: str, reason: str) -> Change:
    body = RolloutWish.model_validate({"action": action, "reason": reason})
    return Change("operator", [Calls.wish_rollout.ask(rollout_id, body)], views.ROLLOUT)


def halt(rollout_id: Id, reason: Reason) -> Answer:
    """Halt a rollout: its release is withdrawn and devices that have it go back.

    For example: fleetloop rollouts halt roll_01 --reason "it scrapes shelves"
    """
    return _wish(rollout_id, "halt", reason)


def pause(rollout_id: Id, reason: Reason) -> Answer:
    """Pause a rollout: nobody new is offered the release.

    For example: fleetloop rollouts pause roll_01 --reason "stock-taking until Monday"
    """
    return _wish(rollout_id, "pause", reason)


def resume(rollout_id: Id, reason: Reason) -> Answer:
    """Let a paused rollout go on.

    For example: fleetloop rollouts resume roll_01 --reason "stock-taking is over"
    """
    return _wish(rollout_id, "resume", reason)


def proceed(rollout_id: Id, reason: Reason) -> Answer:
    """Let a held rollout pass its stage although the evidence does not decide.

    For example: fleetloop rollouts proceed roll_01 --reason "looked at all three events"
    """
    return _wish(rollout_id, "proceed", reason)


WISHES = (halt, pause, resume, proceed)
for wish in WISHES:
    verb(wish.__name__, changes=True)(wish)
