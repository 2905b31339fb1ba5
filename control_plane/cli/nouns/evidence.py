"""Simulation by hand: coverage, prediction, scenarios, suites and evaluations."""

from typing import Annotated

import typer

from control_plane.cli.answers import Answer, Change, Items, One, Report
from control_plane.cli.command import Noun, Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.cli.nouns.registry import Model, OfModel
from control_plane.cli.output import View, say, show
from control_plane.client import Calls, Invalid
from control_plane.evaluation.schemas import CoverageItem, PredictionItem, ScenarioWish


class ScenarioNoun(Noun):
    """`scenarios MODEL` lists those of the model."""

    other = "list"


scenarios = typer.Typer(cls=ScenarioNoun, help="Scenarios made of incidents, kept as regression tests.")
suites = typer.Typer(cls=Noun, help="Suites: versioned lists of scenarios.")
evaluations = typer.Typer(cls=Noun, help="Evaluations: one version run over one suite.")
CELLS = View("tags", ("tags", "scenarios", "events", "exposure"))
PREDICTED = View("candidate", ("candidate", "champion", "predicted", "observed", "held", "inside"))
Source = Annotated[str, typer.Argument(help="the incident's event id")]
Reason = Annotated[str, typer.Option(help="why; it goes to the audit trail", prompt=True)]


def coverage(
    model: Model, every: Annotated[bool, typer.Option("--all", help="every cell, not only the gaps")] = False
) -> Answer:
    """List what is driven and not simulated, over the operating domain that the gate's policy declares.

    For example: fleetloop coverage warehouse-amr-drive --all
    """
    found = client("viewer").coverage(model)
    return Report([found], lambda: _tell_coverage(found, every=every))


def _tell_coverage(found: CoverageItem, *, every: bool) -> None:
    if not found.cells:
        raise Invalid(422, "no_domain", f"the gate policy of {found.model} declares no domain")
    gaps = found.driven_not_simulated
    title = "cells" if every else f"driven and not simulated: {len(gaps)} of {len(found.cells)}"
    show(found.cells if every else gaps, CELLS, title)


def prediction(model: Model) -> Answer:
    """Set what simulation predicted of each version against what the field showed.

    For example: fleetloop prediction warehouse-amr-drive
    """
    found = client("viewer").prediction(model)
    return Report([found], lambda: _tell_prediction(found))


def _tell_prediction(found: PredictionItem) -> None:
    show(found.releases, PREDICTED)
    say(found.because)


@Verb(scenarios)("list", watched=True)
def list_scenarios(model: Model) -> Answer:
    """List incidents that were made scenarios, and whether they happen again with the model that was to blame.

    For example: fleetloop scenarios list warehouse-amr-drive
    """
    return Items(client("viewer").list_scenarios(model), views.SCENARIO)


def _wish(model: str, source: str, action: str, reason: str) -> Change:
    body = ScenarioWish.model_validate({"action": action, "reason": reason})
    return Change("approver", [Calls.wish_scenario.ask(model, source, body)], views.SCENARIO)


@Verb(scenarios)("accept", changes=True)
def accept(model: Model, source: Source, reason: Reason) -> Answer:
    """Keep an incident as a regression test although it does not always happen.

    For example: fleetloop scenarios accept warehouse-amr-drive EVENT --reason "it matters"
    """
    return _wish(model, source, "accept", reason)


@Verb(scenarios)("retire", changes=True)
def retire(model: Model, source: Source, reason: Reason) -> Answer:
    """Take an incident out of the regression tests.

    For example: fleetloop scenarios retire warehouse-amr-drive EVENT --reason "the shelf is gone"
    """
    return _wish(model, source, "retire", reason)


def scenario(
    model: Model,
    source: Source,
    action: Annotated[str, typer.Argument(help="accept: keep it as a test; retire: take it out")],
    reason: Reason,
) -> Answer:
    """Keep an incident as a regression test although it does not always happen, or take it out.

    For example: fleetloop scenario warehouse-amr-drive EVENT accept --reason "it matters"
    """
    return _wish(model, source, action, reason)


@Verb(suites)("list", watched=True)
def list_suites(model: OfModel = None) -> Answer:
    """List suites and how many scenarios each has.

    For example: fleetloop suites list --model warehouse-amr-drive
    """
    return Items(client("viewer").list_suites(model), views.SUITE)


@Verb(evaluations)("list", watched=True)
def list_evaluations() -> Answer:
    """List evaluations and how far each is.

    For example: fleetloop evaluations list --watch
    """
    return Items(client("viewer").list_evaluations(), views.EVALUATION)


Id = Annotated[str, typer.Argument(help="the evaluation's id")]


@Verb(evaluations)("get", watched=True)
def get_evaluation(evaluation_id: Id) -> Answer:
    """Show one evaluation.

    For example: fleetloop evaluations get eval_01
    """
    return One(client("viewer").get_evaluation(evaluation_id), views.EVALUATION)


@Verb(evaluations)("cases")
def list_cases(evaluation_id: Id) -> Answer:
    """List what came of every scenario of an evaluation.

    For example: fleetloop evaluations cases eval_01 -o json
    """
    return Items(client("viewer").list_cases(evaluation_id), views.CASE)
