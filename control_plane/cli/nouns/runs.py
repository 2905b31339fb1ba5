"""`fleetloop runs`, `jobs`, `pipelines`, `clusters` and `ledger`: going round the loop, and what it costs."""

import json
from typing import Annotated, Any

import typer

from control_plane.cli import completion
from control_plane.cli.answers import Answer, Change, Items, One
from control_plane.cli.command import Noun, Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.cli.nouns.bills import BillLine, model_lines
from control_plane.cli.output import for_people
from control_plane.cli.progress_log import Follow, follow, job_lines, run_lines
from control_plane.client import Calls
from control_plane.pipelines.schemas import RunCancel, RunCreate

runs = typer.Typer(cls=Noun, help="Runs: requests to go round the loop, and what came of them.")
jobs = typer.Typer(cls=Noun, help="Jobs: one command, run on a cluster.")
pipelines = typer.Typer(cls=Noun, help="Pipelines: what a run does, and what asks for one.")
clusters = typer.Typer(cls=Noun, help="Clusters: places that compute, with their price and power.")
RunId = Annotated[str, typer.Argument(help="the run's id", autocompletion=completion.runs)]
Pipeline = Annotated[str, typer.Argument(help="the pipeline's name", autocompletion=completion.pipelines)]
Reason = Annotated[str, typer.Option(help="why; it goes to the audit trail", prompt=True)]
JobKey = Annotated[str, typer.Argument(help="the job's key")]


@Verb(runs)("list", watched=True)
def list_runs(pipeline: Annotated[str | None, typer.Option(help="only of this pipeline")] = None) -> Answer:
    """List runs, newest first.

    For example: fleetloop runs list --pipeline warehouse_amr --watch
    """
    return Items(client("viewer").list_runs(pipeline=pipeline), views.RUN)


@Verb(runs)("get", watched=True)
def get_run(run_id: RunId) -> Answer:
    """Show one run with its steps and jobs.

    For example: fleetloop runs get run_01
    """
    c = client("viewer")
    return One(c.get_run(run_id), views.RUN, lambda: [Items(c.list_jobs(run_id=run_id), views.JOB, "jobs")])


def create_run(
    pipeline: Pipeline,
    because: Annotated[str, typer.Option(help="why now")] = "asked for by a person",
    params: Annotated[str, typer.Option(help="parameters as JSON, over the pipeline's own")] = "{}",
) -> Answer:
    """Ask for a run of a pipeline.

    For example: fleetloop runs create warehouse_amr --params '{"recipe": "replay_only"}'
    """
    body = RunCreate(because=because, params=_mapping(params))
    return Change("operator", [Calls.request_run.ask(pipeline, body)], views.RUN)


def _mapping(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--params is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise typer.BadParameter("--params is a JSON object, such as {}")
    return found


Verb(runs)("create", changes=True)(create_run)


@Verb(runs)("cancel", changes=True)
def cancel_run(run_id: RunId, reason: Reason) -> Answer:
    """Stop listening to a run; what its jobs have finished stays.

    For example: fleetloop runs cancel run_01 --reason "the data are wrong"
    """
    return Change("operator", [Calls.cancel_run.ask(run_id, RunCancel(reason=reason))], views.RUN)


@Verb(runs)("logs")
def run_logs(run_id: RunId, follow_it: Follow = False) -> Answer:
    """Tell what happened in a run. The control plane keeps no output of commands, but each step and job as it went.

    For example: fleetloop runs logs run_01 --follow
    """
    c = client("viewer")
    raise typer.Exit(follow(lambda: run_lines(c.get_run(run_id), list(c.list_jobs(run_id=run_id))), on=follow_it))


@Verb(jobs)("list", watched=True)
def list_jobs(
    run_id: Annotated[str | None, typer.Option("--run", help="only of this run")] = None,
    state: Annotated[str | None, typer.Option(help="only in this state")] = None,
) -> Answer:
    """List jobs and what each took.

    For example: fleetloop jobs list --run run_01 -o wide
    """
    return Items(client("viewer").list_jobs(run_id=run_id, state=state), views.JOB)


@Verb(jobs)("get", watched=True)
def get_job(key: JobKey) -> Answer:
    """Show one job: its command, inputs, outputs and cost.

    For example: fleetloop jobs get JOB -o yaml
    """
    return One(client("viewer").get_job(key), views.JOB)


@Verb(jobs)("logs")
def job_logs(key: JobKey, follow_it: Follow = False) -> Answer:
    """Tell how far a job is, what it notes, and why it failed: what the control plane keeps of it.

    For example: fleetloop jobs logs JOB -f
    """
    c = client("viewer")
    raise typer.Exit(follow(lambda: job_lines(c.get_job(key)), on=follow_it))


@Verb(pipelines)("list", watched=True)
def list_pipelines() -> Answer:
    """List pipelines and when each ran last.

    For example: fleetloop pipelines list
    """
    return Items(client("viewer").list_pipelines(), views.PIPELINE)


@Verb(pipelines)("get", watched=True)
def get_pipeline(name: Pipeline) -> Answer:
    """Show one pipeline: its flow, parameters and trigger.

    For example: fleetloop pipelines get warehouse_amr
    """
    return One(client("viewer").get_pipeline(name), views.PIPELINE)


@Verb(clusters)("list")
def list_clusters() -> Answer:
    """List clusters with their price and power.

    For example: fleetloop clusters list
    """
    return Items(client("viewer").list_clusters(), views.CLUSTER)


def ledger(
    by: Annotated[str, typer.Option(help="kind, run, cluster, subject, version or model")] = "kind",
    model: Annotated[str | None, typer.Option(help="by version or model: only this one")] = None,
) -> Answer:
    """Add up cost and energy; figures that were not measured are marked as estimates.

    By version: its training, its simulated episodes and its gate, what a thousand episodes and its promotion cost, and
    incidents prevented since, with an interval; the number itself only where it is told apart from none. A gate is
    charged its share of the other version's episodes, and a promotion only what was spent until then. For example:
    fleetloop ledger --by version
    """
    if by not in ("version", "model"):
        return Items(client("viewer").ledger(by).lines, views.LEDGER)
    found = client("viewer").version_ledger(model)
    if by == "version":
        return Items(map(BillLine.of, found.versions) if for_people() else found.versions, views.BILL)
    return Items(model_lines(found) if for_people() else found.models, views.MODEL_BILL)
