"""Pipelines and their runs."""

from control_plane.kit.http import AdminCall, Cursor, Limit, OperatorCall, PipelineCall, ViewerCall, WorkerCall, router
from control_plane.kit.pages import Page
from control_plane.pipelines import service
from control_plane.pipelines.schemas import (
    Heartbeat,
    PipelineItem,
    PipelinePut,
    RunCancel,
    RunCreate,
    RunFinish,
    RunItem,
    StepPut,
)

api = router("pipelines")


@api.put("/pipelines/{name}", name="put_pipeline")
async def put_pipeline(name: str, body: PipelinePut, call: AdminCall) -> PipelineItem:
    """Add a pipeline or change its trigger."""
    return await service.put_pipeline(call.session, call.principal.name, name, body)


@api.get("/pipelines", name="list_pipelines")
async def list_pipelines(call: ViewerCall) -> list[PipelineItem]:
    """List pipelines."""
    return await service.list_pipelines(call.session)


@api.get("/pipelines/{name}", name="get_pipeline")
async def get_pipeline(name: str, call: ViewerCall) -> PipelineItem:
    """Return one pipeline."""
    return await service.get_pipeline(call.session, name)


@api.post("/pipelines/{name}/runs", status_code=201, name="request_run")
async def request_run(name: str, body: RunCreate, call: WorkerCall) -> RunItem:
    """Ask for a run; it is written down even while the orchestrator is away."""
    return await call.once(body, lambda: service.request_run(call.session, call.principal.name, name, body))


@api.get("/runs", name="list_runs")
async def list_runs(
    call: ViewerCall, after: Cursor = None, limit: Limit = 50, pipeline: str | None = None
) -> Page[RunItem]:
    """List runs, newest first."""
    return await service.list_runs(call.session, pipeline=pipeline, after=after, limit=limit)


@api.get("/runs/{run_id}", name="get_run")
async def get_run(run_id: str, call: ViewerCall) -> RunItem:
    """Return one run with its steps."""
    return await service.get_run(call.session, run_id)


@api.post("/runs/{run_id}/heartbeat", name="heartbeat_run")
async def heartbeat(run_id: str, body: Heartbeat, call: PipelineCall) -> RunItem:
    """Say that an attempt is alive; an attempt that was replaced is refused and must stop."""
    return await service.heartbeat(call.session, run_id, body)


@api.put("/runs/{run_id}/steps/{name}", name="put_run_step")
async def put_step(run_id: str, name: str, body: StepPut, call: PipelineCall) -> RunItem:
    """Report a step."""
    return await service.put_step(call.session, run_id, name, body)


@api.post("/runs/{run_id}/finish", name="finish_run")
async def finish_run(run_id: str, body: RunFinish, call: PipelineCall) -> RunItem:
    """Report the end of a run."""
    return await service.finish_run(call.session, call.principal.name, run_id, body)


@api.post("/runs/{run_id}/cancel", name="cancel_run")
async def cancel_run(run_id: str, body: RunCancel, call: OperatorCall) -> RunItem:
    """Stop listening to a run."""
    return await service.cancel_run(call.session, call.principal.name, run_id, body.reason)
