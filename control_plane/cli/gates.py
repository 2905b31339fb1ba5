"""The gate by hand: plan it, look at one, decide again, try another policy; and simulation against the field."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from control_plane.cli.commands import Json, client
from control_plane.cli.output import console, guarded, show, show_one
from control_plane.client import ClientError
from control_plane.evaluation.schemas import AssumptionsBody, BacktestCreate, PlanCreate, ScenarioWish, ShareItem

MOST_BYTES = 1 << 20
gate = typer.Typer(no_args_is_help=True, help="Plan the gate, decide again over kept evidence, try another policy.")


@gate.command()
def plan(
    model: Annotated[str, typer.Argument(help="the model's name")],
    policy: Annotated[Path | None, typer.Option(help="a policy to plan instead of the model's own (YAML)")] = None,
    broke: Annotated[float, typer.Option(help="share of scenarios that newly fail between equal models")] = 0.005,
    fixed: Annotated[float, typer.Option(help="share of scenarios that are mended between equal models")] = 0.005,
    improvement: Annotated[float, typer.Option(help="share of scenarios that a better model mends")] = 0.1,
    power: Annotated[float, typer.Option(min=0.5, max=0.99, help="how sure the answer is to come")] = 0.8,
    as_json: Json = False,
) -> None:
    """Say before anything is simulated how many scenarios each part needs. Exit status 1: a suite is too small."""

    def command() -> None:
        assumed = AssumptionsBody(broke=broke, fixed=fixed, improvement=improvement, power=power)
        body = PlanCreate(model=model, policy=_read(policy) if policy else None, assumptions=assumed)
        found = client("viewer").plan_gate(body)
        columns = ("suite", "rule", "metric", "planned", "needed", "typical", "power", "enough", "because")
        show(found, columns, as_json=as_json, title="independent scenarios")
        raise typer.Exit(0 if all(part.enough for part in found) else 1)

    guarded(command)


@gate.command(name="show")
def show_gate(
    gate_id: Annotated[str, typer.Argument(help="the gate's id")],
    as_json: Json = False,
) -> None:
    """Show one decision, part by part."""

    def command() -> None:
        found = client("viewer").get_gate(gate_id)
        if as_json:
            typer.echo(found.model_dump_json())
            return
        console.print(f"{found.verdict}: attempt {found.attempt}, evidence {found.evidence_sha256 or 'not kept'}")
        show(found.parts, ("suite", "rule", "metric", "verdict", "because"), as_json=False)

    guarded(command)


@gate.command()
def replay(
    gate_id: Annotated[str | None, typer.Argument(help="the gate's id")] = None,
    every: Annotated[bool, typer.Option("--all", help="every gate whose evidence was kept")] = False,
    as_json: Json = False,
) -> None:
    """Decide again over what was kept and compare. Exit status 1: something differs."""
    if (gate_id is None) == (not every):
        raise typer.BadParameter("name one gate, or say --all")

    def command() -> None:
        c = client("viewer")
        names = [gate_id] if gate_id else [item.id for item in c.list_gates() if item.evidence_sha256]
        found = [c.replay_gate(name) for name in names if name]
        columns = ("gate", "same", "stored_verdict", "verdict", "same_code", "differences")
        show(found, columns, as_json=as_json)
        if not as_json:
            console.print(f"{sum(item.same for item in found)} of {len(found)} gates decide the same again")
        raise typer.Exit(0 if all(item.same for item in found) else 1)

    guarded(command)


@gate.command()
def replays(
    gate_id: Annotated[str, typer.Argument(help="the gate's id")],
    as_json: Json = False,
) -> None:
    """List what can be looked at before answering: both models in scenarios in which they differ, with addresses."""

    def command() -> None:
        c = client("viewer")
        found = [item.model_copy(update={"page": f"{c.server}{item.page}"}) for item in c.list_replays(gate_id)]
        if as_json:
            show(found, (), as_json=True)
            return
        for item in found:
            warning = "" if item.agrees else " (not as the gate judged it)"
            typer.echo(f"{item.suite} {item.scenario} {item.side}: {item.outcome}{warning}")
        for page in sorted({item.page for item in found}):
            typer.echo(page)
        if not found:
            typer.echo("no replays: nothing is asked about this gate, or its workload has no command 'replay'")

    guarded(command)


@gate.command()
def backtest(
    policy: Annotated[Path, typer.Argument(help="a policy (YAML): the `gate:` mapping of a workload.yaml")],
    model: Annotated[str | None, typer.Option(help="only gates of this model")] = None,
    as_json: Json = False,
) -> None:
    """Apply another policy to all kept evidence, against what the field said later or else the gate then."""

    def command() -> None:
        found = client("viewer").backtest(BacktestCreate(policy=_read(policy), model=model))
        if as_json:
            typer.echo(found.model_dump_json())
            return
        show(found.lines, ("gate", "stored", "verdict", "truth", "by"), as_json=False)
        console.print(f"false pass: {_share(found.false_pass)}")
        console.print(f"false block: {_share(found.false_block)}")
        if found.skipped:
            console.print(f"{found.skipped} gates left out: their evidence cannot be decided by this policy")

    guarded(command)


def _share(found: ShareItem) -> str:
    if found.share is None:
        return "nothing to judge it by"
    return f"{found.hits} of {found.of}: {found.share:.1%} ({found.low:.1%} to {found.high:.1%}, 95 %)"


def _read(path: Path) -> dict[str, Any]:
    """Read a policy; a whole workload.yaml will do."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise typer.BadParameter(f"{path} is no policy: it has over {MOST_BYTES} bytes")
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from error
    if isinstance(found, dict) and isinstance(found.get("gate"), dict):
        found = found["gate"]
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{path} holds no mapping of gate rules")
    return found


def coverage(
    model: Annotated[str, typer.Argument(help="the model's name")],
    every: Annotated[bool, typer.Option("--all", help="every cell, not only the gaps")] = False,
    as_json: Json = False,
) -> None:
    """List what is driven and not simulated, over the operating domain that the gate's policy declares."""

    def command() -> None:
        found = client("viewer").coverage(model)
        if as_json:
            typer.echo(found.model_dump_json())
            return
        if not found.cells:
            raise ClientError(422, "no_domain", f"the gate policy of {model} declares no domain")
        cells = found.cells if every else found.driven_not_simulated
        title = (
            "cells" if every else f"driven and not simulated: {len(found.driven_not_simulated)} of {len(found.cells)}"
        )
        show(cells, ("tags", "scenarios", "events", "exposure"), as_json=False, title=title)

    guarded(command)


def prediction(model: Annotated[str, typer.Argument(help="the model's name")], as_json: Json = False) -> None:
    """Set what simulation predicted of each version against what the field showed."""

    def command() -> None:
        found = client("viewer").prediction(model)
        if as_json:
            typer.echo(found.model_dump_json())
            return
        show(found.releases, ("candidate", "champion", "predicted", "observed", "held", "inside"), as_json=False)
        console.print(found.because)

    guarded(command)


def scenarios(model: Annotated[str, typer.Argument(help="the model's name")], as_json: Json = False) -> None:
    """List incidents that were made scenarios, and whether they happen again with the model that was to blame."""
    columns = ("source", "state", "failures", "seeds", "guilty", "because")
    guarded(lambda: show(client("viewer").list_scenarios(model), columns, as_json=as_json))


def scenario(
    model: Annotated[str, typer.Argument(help="the model's name")],
    source: Annotated[str, typer.Argument(help="the incident's event id")],
    action: Annotated[str, typer.Argument(help="accept: keep it as a test; retire: take it out")],
    reason: Annotated[str, typer.Option(help="why", prompt=True)],
    as_json: Json = False,
) -> None:
    """Keep an incident as a regression test although it does not always happen, or take it out."""
    try:
        body = ScenarioWish.model_validate({"action": action, "reason": reason})
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    guarded(lambda: show_one(client("approver").wish_scenario(model, source, body), as_json=as_json))


COMMANDS = (coverage, prediction, scenarios, scenario)
