"""Ask for runs; hear from them. Only the newest attempt of a run is listened to."""

from typing import Any

from control_plane.audit import service as audit
from control_plane.factory import service as factory
from control_plane.kit import clock, outbox, tracing
from control_plane.kit.db import Session, execute
from control_plane.kit.errors import Conflict, NotFound
from control_plane.kit.ids import new_id
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.pipelines import store
from control_plane.pipelines.domain import ENDS, TOLD_FAILED, RunState
from control_plane.pipelines.models import Pipeline, PipelineRun
from control_plane.pipelines.schemas import (
    Heartbeat,
    PipelineItem,
    PipelinePut,
    RunCreate,
    RunFinish,
    RunItem,
    StepPut,
)
from control_plane.registry import service as registry

measures = store.measures


async def put_pipeline(session: Session, actor: str, name: str, body: PipelinePut) -> PipelineItem:
    await registry.get_model(session, body.model)
    await store.put_pipeline(session, name, body.model_dump(mode="json"))
    await audit.record(session, actor, "pipeline.put", name, f"runs {body.flow}")
    return _pipeline(await _find_pipeline(session, name))


async def get_pipeline(session: Session, name: str) -> PipelineItem:
    return _pipeline(await _find_pipeline(session, name))


async def list_pipelines(session: Session) -> list[PipelineItem]:
    return [_pipeline(p) for p in await store.list_pipelines(session)]


async def request_run(session: Session, actor: str, name: str, body: RunCreate) -> RunItem:
    """Write the request; the reconciler hands it to the orchestrator, now or when that is back."""
    pipeline = await _find_pipeline(session, name, lock=True)
    return _run(await insert_run(session, pipeline, actor, body.because, body.params))


async def insert_run(
    session: Session, pipeline: Pipeline, actor: str, because: str, params: dict[str, Any]
) -> PipelineRun:
    run = PipelineRun(
        id=new_id("run"),
        pipeline=pipeline.name,
        flow=pipeline.flow,
        because=because,
        requested_by=actor,
        params=pipeline.params | params,
        state=RunState.REQUESTED,
        attempt=0,
        steps={},
        result={},
        requested_at=clock.now(),
        traceparent=tracing.header(),
    )
    pipeline.last_run_at = clock.now()
    session.add(run)
    await session.flush()
    await execute(session, "select pg_notify('fleetloop', 'run')")
    await outbox.tell_lineage(session, "run", run.id, "START", run.requested_at)
    await audit.record(session, actor, "run.request", run.id, because, pipeline=pipeline.name)
    return run


async def heartbeat(session: Session, run_id: str, body: Heartbeat) -> RunItem:
    run = await _held(session, run_id, body.attempt)
    run.heartbeat_at = clock.now()
    run.state = RunState.RUNNING
    return _run(run)


async def put_step(session: Session, run_id: str, name: str, body: StepPut) -> RunItem:
    run = await _held(session, run_id, body.attempt)
    run.heartbeat_at = clock.now()
    held = run.steps.get(name, {})
    started = held.get("started_at") if body.state != "running" else None
    step = {
        "state": body.state,
        "started_at": started or clock.now().isoformat(),
        "seconds": body.seconds,
        "compute_s": body.compute_s,
        "note": body.note,
    }
    run.steps = run.steps | {name: step}
    return _run(run)


async def finish_run(session: Session, actor: str, run_id: str, body: RunFinish) -> RunItem:
    run = await _find_run(session, run_id, lock=True)
    if run.state == body.state and run.attempt == body.attempt:
        return _run(run)  # the answer to the first request was lost
    run = await _held(session, run_id, body.attempt)
    run.state, run.finished_at = RunState(body.state), clock.now()
    run.result, run.failure = body.result, body.failure
    event = "COMPLETE" if run.state is RunState.DONE else "FAIL"
    await outbox.tell_lineage(session, "run", run_id, event, run.finished_at)
    if run.state is RunState.FAILED:
        await outbox.tell(session, TOLD_FAILED, run_id, body.failure or "it failed", f"/runs/{run_id}")
    await audit.record(session, actor, f"run.{body.state}", run_id, body.failure or "", pipeline=run.pipeline)
    return _run(run)


async def cancel_run(session: Session, actor: str, run_id: str, reason: str) -> RunItem:
    run = await _find_run(session, run_id, lock=True)
    if RunState(run.state) in ENDS:
        raise Conflict(f"run {run_id} is {run.state} already")
    run.state, run.finished_at, run.failure = RunState.CANCELLED, clock.now(), reason
    await outbox.tell_lineage(session, "run", run_id, "ABORT", run.finished_at)
    await factory.cancel_jobs(session, run_id, f"its run was: {reason}"[:500])
    await audit.record(session, actor, "run.cancel", run_id, reason)
    return _run(run)


async def get_run(session: Session, run_id: str) -> RunItem:
    return _run(await _find_run(session, run_id))


async def list_runs(
    session: Session, *, pipeline: str | None = None, after: str | None = None, limit: int = 50
) -> Page[RunItem]:
    cursor = decode_cursor(after)
    found = await store.list_runs(session, pipeline=pipeline, before=cursor[0] if cursor else None, limit=limit + 1)
    return page_of([_run(run) for run in found], limit, lambda item: item.id)


async def _held(session: Session, run_id: str, attempt: int) -> PipelineRun:
    run = await _find_run(session, run_id, lock=True)
    if RunState(run.state) in ENDS:
        raise Conflict(f"run {run_id} is {run.state}", code="run_over")
    if run.attempt != attempt:
        raise Conflict(f"attempt {attempt} of run {run_id} was replaced by {run.attempt}", code="attempt_lost")
    return run


async def _find_run(session: Session, run_id: str, *, lock: bool = False) -> PipelineRun:
    run = await store.find_run(session, run_id, lock=lock)
    if run is None:
        raise NotFound(f"there is no run {run_id}")
    return run


async def _find_pipeline(session: Session, name: str, *, lock: bool = False) -> Pipeline:
    pipeline = await store.find_pipeline(session, name, lock=lock)
    if pipeline is None:
        raise NotFound(f"there is no pipeline {name!r}")
    return pipeline


def _pipeline(pipeline: Pipeline) -> PipelineItem:
    return PipelineItem.model_validate(pipeline, from_attributes=True)


def _run(run: PipelineRun) -> RunItem:
    return RunItem.model_validate(run, from_attributes=True)
