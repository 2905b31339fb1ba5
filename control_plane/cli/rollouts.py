"""`fleetloop rollouts ...` and `fleetloop devices ...`: list them, show one, plan, explain, replay."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from control_plane.cli.commands import Json, client, first
from control_plane.cli.output import console, guarded, show, show_one
from control_plane.rollout.domain import Control
from control_plane.rollout.schemas import (
    Explanation,
    ForecastItem,
    PlanBody,
    RolloutCreate,
    RolloutPlan,
    StageBody,
    StageNeedItem,
    WindowBody,
)

UNITS = {"distance_m": (1000.0, "km"), "duration_s": (3600.0, "h")}
WIDTH = 12


class Noun(TyperGroup):
    """A group in which a word that is no verb is a thing to be shown: `rollouts roll_01` is `rollouts show roll_01`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["show", *args]
        return super().resolve_command(ctx, args)


rollouts = typer.Typer(
    cls=Noun, invoke_without_command=True, help="Rollouts: list, show, plan, explain, replay.", no_args_is_help=False
)
devices = typer.Typer(cls=Noun, invoke_without_command=True, help="Devices: list, show, explain.")


@rollouts.callback()
def list_rollouts(context: typer.Context, as_json: Json = False) -> None:
    """List rollouts, newest first; with a verb or an id, about one of them."""
    if context.invoked_subcommand is None:
        columns = ("id", "model", "phase", "stage", "override_reason", "because")
        guarded(lambda: show(first(client("viewer").list_rollouts()), columns, as_json=as_json))


@rollouts.command("show")
def show_rollout(rollout_id: str, as_json: Json = False) -> None:
    """Show a rollout, how its devices stand, and what was decided about it."""

    def command() -> None:
        c = client("viewer")
        show_one(c.get_rollout(rollout_id), as_json=as_json)
        show(c.tally_rollout(rollout_id), ("site", "device_class", "standing", "devices"), as_json=as_json)
        show(c.rollout_decisions(rollout_id)[-20:], ("at", "phase", "stage", "because"), as_json=as_json)

    guarded(command)


@rollouts.command("explain")
def explain_rollout(rollout_id: str, as_json: Json = False) -> None:
    """Say in words how a rollout stands, on what evidence, and what would move it."""
    guarded(lambda: _tell(client("viewer").explain_rollout(rollout_id), as_json=as_json))


@rollouts.command("replay")
def replay_rollout(rollout_id: str, as_json: Json = False) -> None:
    """Make every kept decision again from what was kept of it; exit 1 if one comes out otherwise."""

    def command() -> None:
        made = client("viewer").replay_rollout(rollout_id)
        if as_json:
            typer.echo(made.model_dump_json())
        else:
            for item in made.items:
                if item.differs:
                    console.print(
                        f"[red]decision {item.number} differs in {', '.join(item.differs)}[/red]: {item.because}"
                    )
            console.print(f"{made.decisions} decisions made again, {made.different} came out otherwise")
        raise typer.Exit(1 if made.different else 0)

    guarded(command)


@rollouts.command("plan")
def plan_rollout(
    model: Annotated[str, typer.Argument(help="the model to be rolled out")],
    device_class: Annotated[list[str], typer.Option(help="to which classes; may be given several times")],
    site: Annotated[list[str] | None, typer.Option(help="only to these sites")] = None,
    stages: Annotated[str, typer.Option(help="fractions of the fleet")] = "0.1,0.5,1.0",
    max_exposure: Annotated[float, typer.Option(help="canary exposure per stage, in the model's unit")] = 20_000,
    days: Annotated[float, typer.Option(help="deadline of each stage, in days")] = 7,
    margin: Annotated[float, typer.Option(help="the rate may be at most 1 + margin times control's")] = 1.0,
    power: Annotated[float, typer.Option(min=0.5, max=0.99, help="how sure to be")] = 0.8,
    as_json: Json = False,
) -> None:
    """Say what a plan needs on this fleet, by its own rates, to see 1.5, 2 and 3 times the events.

    For example: fleetloop rollouts plan warehouse-amr-drive --device-class sim-amr --stages 0.25,1.0
    """
    fractions = [float(part) for part in stages.split(",")]
    body = PlanBody(stages=stage_bodies(fractions, max_exposure, days), margin=margin)
    asked = RolloutPlan(model=model, device_classes=device_class, plan=body, sites=site, power=power)
    guarded(lambda: tell_forecast(client("viewer").plan_rollout(asked), as_json=as_json))


def stage_bodies(fractions: Sequence[float], max_exposure: float, days: float = 7) -> list[StageBody]:
    """Return stages of which the first has to prove that the release is no worse."""
    return [
        StageBody(fraction=f, max_exposure=max_exposure, deadline_s=days * 86_400, must_prove=n == 0 and f < 1)
        for n, f in enumerate(fractions)
    ]


def tell_forecast(found: ForecastItem, *, as_json: bool) -> None:
    """Print a forecast: a line for each stage and effect, with a bar for the days it takes."""
    if as_json:
        typer.echo(found.model_dump_json())
        return
    if not found.known:
        console.print(found.because)
        return
    scale, unit = UNITS[found.unit]
    longest = max((need.days_needed or 0.0 for need in found.needs), default=0.0) or 1.0
    table = Table(header_style="bold")
    for column in ("stage", "devices", "control", "to see", f"{unit} needed", "days", "", "decides"):
        table.add_column(column, no_wrap=True)
    for need in sorted(found.needs, key=lambda need: (need.stage, need.ratio)):
        if need.control_devices:  # with nobody left to compare with, nothing is to be seen
            table.add_row(*_row(need, scale, longest))
    console.print(table)
    per_day, rate = found.exposure_per_day / scale, (found.events_per_exposure or 0.0) * scale
    console.print(f"this fleet drives {per_day:.4g} {unit} a day with {rate:.3g} incidents per {unit}; {found.because}")


def _row(need: StageNeedItem, scale: float, longest: float) -> list[str]:
    days, exposure = need.days_needed, need.exposure_needed
    bar = "never" if days is None else "█" * round(WIDTH * days / longest) or "▏"
    return [
        f"{need.stage + 1} ({need.fraction:.0%})",
        str(need.canary_devices),
        str(need.control_devices),
        f"{need.ratio:g}x",
        "∞" if exposure is None else f"{exposure / scale:.3g}",
        "∞" if days is None else f"{days:.2g}",
        bar,
        "yes" if need.can_decide else "no",
    ]


@devices.callback()
def list_devices(
    context: typer.Context,
    site: Annotated[str | None, typer.Option(help="only this site")] = None,
    running: Annotated[str | None, typer.Option(help="only those that run this content or release")] = None,
    as_json: Json = False,
) -> None:
    """List devices: where they are, what they run, when they were last seen."""
    if context.invoked_subcommand is None:
        columns = ("serial", "site", "device_class", "state", "active_content", "active_counter", "last_seen_at")
        found = client("viewer").list_devices
        guarded(lambda: show(first(found(site=site, running=running)), columns, as_json=as_json))


@devices.command("show")
def show_device(device_id: str, as_json: Json = False) -> None:
    """Show one device."""
    guarded(lambda: show_one(client("viewer").get_device(device_id), as_json=as_json))


@devices.command("explain")
def explain_device(device_id: str, as_json: Json = False) -> None:
    """Say in words why a device runs what it runs, and what it waits for."""
    guarded(lambda: _tell(client("viewer").explain_device(device_id), as_json=as_json))


def _tell(said: Explanation, *, as_json: bool) -> None:
    if as_json:
        typer.echo(said.model_dump_json())
        return
    for line in said.lines:
        console.print(line, highlight=False, markup=False)


def roll_out(
    release: Annotated[str, typer.Argument(help="release digest")],
    gate: Annotated[str | None, typer.Option(help="the gate that judged it")] = None,
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what the plan needs, and make nothing")] = False,
    as_json: Json = False,
) -> None:
    """Plan a release's way to devices, for example: fleetloop roll-out RELEASE --gate GATE --stages 0.1,1.0."""
    try:
        plan = PlanBody(
            stages=stage_bodies([float(part) for part in stages.split(",")], max_exposure),
            safe_state=safe_state,
            site_budget=site_budget,
            cell_budget=cell_budget,
            windows=[read_window(text) for text in window or ()],
            shadow_s=shadow_s,
            control=control,
        )
    except ValueError as error:  # pydantic's too: what a rule lacks is said there
        raise typer.BadParameter(str(error)) from error
    body = RolloutCreate(
        release=release,
        gate_id=gate,
        plan=plan,
        override_reason=override_reason,
        plan_override=override_plan,
        preempt=preempt,
    )
    guarded(lambda: _ask_plan(body, as_json=as_json) if dry_run else _create(body, as_json=as_json))


def _create(body: RolloutCreate, *, as_json: bool) -> None:
    show_one(client().create_rollout(body), as_json=as_json)


def _ask_plan(body: RolloutCreate, *, as_json: bool) -> None:
    release = client("viewer").get_release(body.release)
    asked = RolloutPlan(model=release.model, device_classes=release.device_classes, plan=body.plan, sites=body.sites)
    tell_forecast(client("viewer").plan_rollout(asked), as_json=as_json)


def read_window(text: str) -> WindowBody:
    """Read "ZONE HH:MM-HH:MM [DAYS]"; raises ValueError on anything else."""
    zone, _, rest = text.strip().partition(" ")
    hours, _, days = rest.strip().partition(" ")
    start, dash, end = hours.partition("-")
    if not dash:
        raise ValueError(f'a window is "ZONE HH:MM-HH:MM [DAYS]", as in "Europe/Berlin 22:00-05:00", not {text!r}')
    named = {"days": [day.strip() for day in days.split(",")]} if days.strip() else {}
    return WindowBody(zone=zone, start=start, end=end, **named)
