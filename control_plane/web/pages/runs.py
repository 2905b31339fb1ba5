"""Runs of pipelines: their steps, their jobs, what went wrong and what it cost."""

from uuid import UUID

from control_plane.factory import service as factory
from control_plane.kit.http import Cursor, Response
from control_plane.kit.settings import Settings
from control_plane.pipelines import service
from control_plane.web.edge import SeeCall, pages
from control_plane.web.figures import elapsed, step_picture, steps_of
from control_plane.web.names import load_names
from control_plane.web.told import told

SHOWN_JOBS = 200
runs = pages()


@runs.get("/runs")
async def show_runs(call: SeeCall, after: Cursor = None) -> Response:
    found = await service.list_runs(call.session, after=after, limit=50)
    return call.show(
        "runs.html",
        found=found,
        pipelines=await service.list_pipelines(call.session),
        rows=[(run, steps_of(run), elapsed(run.requested_at, run.finished_at)) for run in found.items],
    )


@runs.get("/runs/{run_id}")
async def show_run(run_id: str, call: SeeCall) -> Response:
    run = await service.get_run(call.session, run_id)
    jobs = (await factory.list_jobs(call.session, run_id=run_id, limit=SHOWN_JOBS)).items
    steps, names = steps_of(run), await load_names(call)
    return call.show(
        "run.html",
        run=run,
        prefect=prefect_page(call.context.settings, run.orchestrator_id),
        steps=steps,
        params=told(names, run.params),
        result=told(names, run.result or {}),
        jobs=jobs,
        picture=step_picture(run),
        lasted=elapsed(run.requested_at, run.finished_at),
        compute=sum(step.compute_s or 0 for _, step in steps),
        seconds_all=sum(step.seconds or 0 for _, step in steps),
        usd=sum(job.usd for job in jobs),
        joules=sum(job.energy_j for job in jobs),
        estimate=any(job.energy_is_estimate for job in jobs),
    )


def prefect_page(settings: Settings, orchestrator_id: str | None) -> str | None:
    """Return where Prefect shows a run; None if nobody said where its pages are, or it is not Prefect that runs it.

    Nobody is asked: the page may be away, and ours is there all the same.
    """
    if settings.prefect_ui_url is None or settings.orchestrator != "prefect":
        return None
    try:
        flow_run = UUID(orchestrator_id or "")
    except ValueError:
        return None
    return f"{settings.prefect_ui_url.rstrip('/')}/runs/flow-run/{flow_run}"
