"""`fleetloop clusters put|meters`, `jobs explain|meters|cancel`: where jobs may run, why there, what it takes."""

from typing import Annotated

import typer
from pydantic import ValidationError

from control_plane.cli.answers import Answer, Change, Items, Report
from control_plane.cli.command import Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.cli.nouns.meters import meter_lines
from control_plane.cli.nouns.runs import JobKey, Reason, clusters, jobs
from control_plane.cli.output import say
from control_plane.client import Calls
from control_plane.factory.domain import ExporterKind
from control_plane.factory.schemas import ClusterPut, ExporterPut

__all__ = ["clusters", "jobs"]
GIB = 1 << 30


@Verb(clusters)("put", changes=True)
def put_cluster(
    name: Annotated[str, typer.Argument(help="the cluster's name, as runners' clusters.yaml has it")],
    backend: Annotated[str, typer.Option(help="local, slurm, ray, kubernetes, osmo or another")],
    usd_per_hour: Annotated[float, typer.Option(min=0, help="of one job's time, without its GPUs")],
    watts: Annotated[float, typer.Option(min=0, help="of one busy core")],
    cpus: Annotated[float | None, typer.Option(min=0.01, help="the most one job may have")] = None,
    gpus: Annotated[float, typer.Option(min=0, help="the most one job may have")] = 0.0,
    memory_gib: Annotated[float | None, typer.Option(min=0.01, max=1e6, help="the most one job may have")] = None,
    slots: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="jobs at once")] = None,
    speed: Annotated[float, typer.Option(min=0.001, max=1000, help="relative to where times were measured")] = 1.0,
    queue_s: Annotated[float, typer.Option(min=0, max=604800, help="wait of an ordinary day, in seconds")] = 0.0,
    usd_per_gpu_hour: Annotated[float, typer.Option(min=0, help="of one GPU")] = 0.0,
    gpu_watts: Annotated[float, typer.Option(min=0, help="of one busy GPU")] = 0.0,
    usd_per_kwh: Annotated[float, typer.Option(min=0, max=1000, help="of energy that hours do not include")] = 0.0,
    exporter: Annotated[
        list[str] | None,
        typer.Option(help="KIND=URL of one exporter, once for each; 'none' takes all away, without it they stay"),
    ] = None,
    note: Annotated[str, typer.Option(help="where the figures come from")] = "",
) -> Answer:
    """State what a cluster has and costs; what is not stated is taken for enough.

    For example: fleetloop clusters put hpc --backend slurm --usd-per-hour 0.4 --watts 6 --cpus 64 --slots 200
    """
    body = ClusterPut(
        backend=backend,
        usd_per_hour=usd_per_hour,
        watts=watts,
        note=note,
        cpus=cpus,
        gpus=gpus,
        memory_bytes=int(memory_gib * GIB) if memory_gib is not None else None,
        slots=slots,
        speed=speed,
        queue_s=queue_s,
        usd_per_gpu_hour=usd_per_gpu_hour,
        gpu_watts=gpu_watts,
        usd_per_kwh=usd_per_kwh,
        exporters=_exporters(exporter),
    )
    return Change("admin", [Calls.put_cluster.ask(name, body)], views.CLUSTER)


def _exporters(said: list[str] | None) -> list[ExporterPut] | None:
    if not said:
        return None
    try:
        return [ExporterPut(kind=ExporterKind(kind), url=url) for kind, _, url in _pairs(said)]
    except ValueError as error:
        kinds = ", ".join(ExporterKind)
        words = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise typer.BadParameter(f"--exporter is KIND=URL, KIND one of {kinds}: {words}") from error


def _pairs(said: list[str]) -> list[tuple[str, str, str]]:
    return [] if said == ["none"] else [each.partition("=") for each in said]


@Verb(clusters)("meters", watched=True)
def cluster_meters(
    name: Annotated[str, typer.Argument(help="the cluster's name")],
    hours: Annotated[float, typer.Option(min=0.02, max=744, help="how far back")] = 1.0,
) -> Answer:
    """Say what a cluster's exporters measured: tokens, joules, dollars, waits; a dash is not measured.

    For example: fleetloop clusters meters gpus --hours 24
    """
    found = client("viewer").cluster_meters(name, hours)
    return Report([found], lambda: say("\n".join(meter_lines(found))), key="cluster")


@Verb(jobs)("meters", watched=True)
def job_meters(key: JobKey) -> Answer:
    """Say what the GPUs of a job's attempts were measured to take, or why nobody knows.

    For example: fleetloop jobs meters JOB
    """
    return Items(client("viewer").job_meters(key).uses, views.USE)


@Verb(jobs)("explain", watched=True)
def explain_job(key: JobKey) -> Answer:
    """Say why a job runs where it runs, what else was looked at, and how it stands.

    For example: fleetloop jobs explain JOB
    """
    said = client("viewer").explain_job(key)
    return Report([said], lambda: say("\n".join(said.lines)), key="subject")


@Verb(jobs)("cancel", changes=True)
def cancel_job(key: JobKey, reason: Reason) -> Answer:
    """End a job, wherever it runs or waits; it is not tried again unless it is asked for anew.

    For example: fleetloop jobs cancel JOB --reason "the data are wrong"
    """
    return Change("operator", [Calls.cancel_job.ask(key, reason)], views.JOB)
