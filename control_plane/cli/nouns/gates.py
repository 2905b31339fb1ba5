"""`fleetloop gates`: what the gate said, planned, decided again, and by another policy."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from control_plane.cli import completion
from control_plane.cli.answers import Answer, Items, Report
from control_plane.cli.command import Noun, Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.cli.nouns.registry import Model, OfModel
from control_plane.cli.output import View, say, show
from control_plane.cli.policies import read_policy
from control_plane.evaluation.schemas import (
    AssumptionsBody,
    Backtest,
    BacktestCreate,
    GateItem,
    GateReplayItem,
    PartPlanItem,
    PlanCreate,
    ReplayItem,
    ShareItem,
)

gates = typer.Typer(cls=Noun, help="Gates: what simulation says of a candidate, and why.")
verb = Verb(gates)
Id = Annotated[str, typer.Argument(help="the gate's id", autocompletion=completion.gates)]
BACKTESTED = View("gate", ("gate", "stored", "verdict", "truth", "by"))


@verb("list", watched=True)
def list_gates(candidate: Annotated[str | None, typer.Option(help="only of this content")] = None) -> Answer:
    """List what the gate said, and why.

    For example: fleetloop gates list -o wide
    """
    return Items(client("viewer").list_gates(candidate=candidate), views.GATE)


def get_gate(gate_id: Id) -> Answer:
    """Show one decision, part by part.

    For example: fleetloop gates get gate_01
    """
    found = client("viewer").get_gate(gate_id)
    return Report([found], lambda: _tell_gate(found), key="id")


verb("get")(get_gate)
verb("show", hidden=True)(get_gate)


def _tell_gate(found: GateItem) -> None:
    say(f"{found.verdict}: attempt {found.attempt}, evidence {found.evidence_sha256 or 'not kept'}")
    show(found.parts, views.GATE_PART)


@verb("plan")
def plan(
    model: Model,
    policy: Annotated[Path | None, typer.Option(help="a policy to plan instead of the model's own (YAML)")] = None,
    broke: Annotated[float, typer.Option(help="share of scenarios that newly fail between equal models")] = 0.005,
    fixed: Annotated[float, typer.Option(help="share of scenarios that are mended between equal models")] = 0.005,
    improvement: Annotated[float, typer.Option(help="share of scenarios that a better model mends")] = 0.1,
    power: Annotated[float, typer.Option(min=0.5, max=0.99, help="how sure the answer is to come")] = 0.8,
) -> Answer:
    """Say before anything is simulated how many scenarios each part needs. Exit status 1: a suite is too small.

    For example: fleetloop gates plan warehouse-amr-drive --power 0.9
    """
    assumed = AssumptionsBody(broke=broke, fixed=fixed, improvement=improvement, power=power)
    body = PlanCreate(model=model, policy=read_policy(policy) if policy else None, assumptions=assumed)
    found = client("viewer").plan_gate(body)
    return _several(found, views.GATE_PLAN, "independent scenarios", all(part.enough for part in found))


def _several(
    found: list[PartPlanItem] | list[ReplayItem], view: View, title: str, good: bool, last: str = ""
) -> Report:
    models: list[BaseModel] = list(found)

    def tell() -> None:
        show(models, view, title)
        if last:
            say(last)

    return Report(models, tell, key=view.key, status=0 if good else 1)


@verb("replay")
def replay(
    gate_id: Annotated[str | None, typer.Argument(help="the gate's id", autocompletion=completion.gates)] = None,
    every: Annotated[bool, typer.Option("--all", help="every gate whose evidence was kept")] = False,
) -> Answer:
    """Decide again over what was kept and compare. Exit status 1: something differs.

    For example: fleetloop gates replay --all
    """
    if (gate_id is None) == (not every):
        raise typer.BadParameter("name one gate, or say --all")
    c = client("viewer")
    names = [gate_id] if gate_id else [item.id for item in c.list_gates() if item.evidence_sha256]
    found = [c.replay_gate(name) for name in names if name]
    same = sum(item.same for item in found)
    last = f"{same} of {len(found)} gates decide the same again"
    return _several(found, views.GATE_REPLAY, "", same == len(found), last)


@verb("replays")
def replays(gate_id: Id) -> Answer:
    """List what can be looked at before answering: both models in scenarios in which they differ, with addresses.

    For example: fleetloop gates replays gate_01
    """
    c = client("viewer")
    found = [item.model_copy(update={"page": f"{c.server}{item.page}"}) for item in c.list_replays(gate_id)]
    return Report(found, lambda: _tell_replays(found), key="page")


def _tell_replays(found: list[GateReplayItem]) -> None:
    for item in found:
        warning = "" if item.agrees else " (not as the gate judged it)"
        say(f"{item.suite} {item.scenario} {item.side}: {item.outcome}{warning}")
    for page in sorted({item.page for item in found}):
        say(page)
    if not found:
        say("no replays: nothing is asked about this gate, or its workload has no command 'replay'")


@verb("backtest")
def backtest(
    policy: Annotated[Path, typer.Argument(help="a policy (YAML): the `gate:` mapping of a workload.yaml")],
    model: OfModel = None,
) -> Answer:
    """Apply another policy to all kept evidence, against what the field said later or else the gate then.

    For example: fleetloop gates backtest stricter.yaml --model warehouse-amr-drive
    """
    found = client("viewer").backtest(BacktestCreate(policy=read_policy(policy), model=model))
    return Report([found], lambda: _tell_backtest(found))


def _tell_backtest(found: Backtest) -> None:
    show(found.lines, BACKTESTED)
    say(f"false pass: {_share(found.false_pass)}")
    say(f"false block: {_share(found.false_block)}")
    if found.skipped:
        say(f"{found.skipped} gates left out: their evidence cannot be decided by this policy")


def _share(found: ShareItem) -> str:
    if found.share is None:
        return "nothing to judge it by"
    return f"{found.hits} of {found.of}: {found.share:.1%} ({found.low:.1%} to {found.high:.1%}, 95 %)"
