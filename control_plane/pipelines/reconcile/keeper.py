"""Ask for runs when the evidence says so, and keep every open run in somebody's hands.

`Orchestrator` is the port; the key of a submission names run and attempt and a hash of the parameters, so that
submitting again is harmless. An orchestrator that is down only delays.
"""

import logging
from typing import Any, Protocol

from agents.protocol.v1 import digest_of
from control_plane.audit import service as audit
from control_plane.kit import clock, outbox, tracing
from control_plane.kit.context import Context
from control_plane.kit.db import Session
from control_plane.kit.errors import Unavailable
from control_plane.pipelines import service, store
from control_plane.pipelines.domain import TOLD_FAILED, Care, Evidence, RunState, SeenRun, Trigger, care_for, why_run
from control_plane.pipelines.models import Pipeline, PipelineRun
from control_plane.registry import service as registry
from control_plane.rollout import service as rollout
from control_plane.telemetry import service as telemetry

ACTOR = "pipeline-reconciler"
START_TIMEOUT_S = 90.0
log = logging.getLogger(__name__)


class Orchestrator(Protocol):
    """Whoever starts flows. It holds no truth: what it says of a run is only observed."""

    async def submit(self, flow: str, params: dict[str, Any], key: str) -> str:
        """Start a flow once per key; return the orchestrator's own id.

        Raises:
            Unavailable: it does not answer; try again.
        """

    async def get(self, orchestrator_id: str) -> str | None:
        """Return its word for a run's state, or None if it knows no such run."""

    async def cancel(self, orchestrator_id: str) -> None: ...

    async def list(self) -> list[str]:
        """Return the ids of runs it holds open."""


async def tick(context: Context, orchestrator: Orchestrator) -> int:
    async with context.database.transaction() as session:
        names = [pipeline.name for pipeline in await store.list_pipelines(session)]
        runs = await store.open_runs(session)
    moved = 0
    for name in names:
        async with context.database.transaction() as session:
            pipeline = await store.claim_pipeline(session, name)
            moved += await _ask(session, pipeline) if pipeline is not None else 0
    for run_id in runs:
        async with context.database.transaction() as session:
            run = await store.claim_run(session, run_id)
            moved += await _care(context, session, orchestrator, run) if run is not None else 0
    return moved


async def _ask(session: Session, pipeline: Pipeline) -> int:
    trigger = Trigger(**pipeline.trigger)
    if trigger == Trigger():
        return 0
    seen, cursor = await _evidence(session, pipeline, trigger)
    because = why_run(trigger, seen)
    if because is None:
        return 0
    with tracing.span("pipeline ask", parent=await _cause(session, pipeline), pipeline=pipeline.name):
        await service.insert_run(session, pipeline, ACTOR, because, {"since_event": pipeline.event_cursor})
    pipeline.event_cursor = cursor
    return 1


async def _evidence(session: Session, pipeline: Pipeline, trigger: Trigger) -> tuple[Evidence, int]:
    model = await registry.get_model(session, pipeline.model)
    kinds = [kind for kind, rule in model.events.items() if rule.incident]
    new, cursor = await telemetry.count_events_since(session, pipeline.event_cursor, kinds)
    rate_low = None
    if trigger.expected_rate is not None:
        running = await _running(session, pipeline.model)
        rate_low = (await telemetry.rate(session, running, kinds, model.exposure)).low if running else None
    open_run = bool(await store.open_runs(session, pipeline.name))
    return Evidence(clock.now(), new, rate_low, pipeline.last_run_at, open_run), cursor


async def _cause(session: Session, pipeline: Pipeline) -> str | None:
    """Return the trace of the newest incident since the last run; without a collector nobody looks."""
    if not tracing.is_on():
        return None
    model = await registry.get_model(session, pipeline.model)
    kinds = [kind for kind, rule in model.events.items() if rule.incident]
    return await outbox.newest_trace(session, telemetry.TRACED, kinds, pipeline.last_run_at)


async def _running(session: Session, model: str) -> str | None:
    """Return the content that a model's devices run when no rollout says otherwise."""
    for baseline in await rollout.list_baselines(session):
        if (await registry.get_version(session, baseline.content_digest)).model == model:
            return baseline.content_digest
    return None


async def _care(context: Context, session: Session, orchestrator: Orchestrator, run: PipelineRun) -> int:
    care, because = care_for(
        SeenRun(
            RunState(run.state),
            run.attempt,
            run.submitted_at,
            run.heartbeat_at,
            clock.now(),
            context.settings.heartbeat_timeout_s,
            START_TIMEOUT_S,
        )
    )
    match care:
        case Care.NOTHING:
            return 0
        case Care.FAIL:
            run.state, run.finished_at, run.failure = RunState.FAILED, clock.now(), because
            await outbox.tell(session, TOLD_FAILED, run.id, because, f"/runs/{run.id}")
            await outbox.tell_lineage(session, "run", run.id, "FAIL", run.finished_at)
            await audit.record(session, ACTOR, "run.fail", run.id, because)
        case Care.SUBMIT:
            return await _submit(context, session, orchestrator, run, because)
    return 1


async def _submit(
    context: Context, session: Session, orchestrator: Orchestrator, run: PipelineRun, because: str
) -> int:
    attempt = run.attempt + 1
    params = {"run_id": run.id, "attempt": attempt, "params": run.params, "server": context.settings.public_url}
    key = f"{run.id}-{attempt}-{digest_of(params)[:12]}"  # the same if it is submitted again; spans are not
    try:
        with tracing.span("run submit", parent=run.traceparent, kind="producer", run__id=run.id, attempt=attempt):
            traced: dict[str, Any] = tracing.headers() if run.traceparent else {}
            made = await orchestrator.submit(run.flow, params | traced, key)
    except Unavailable as error:
        log.info("run %s waits: %s", run.id, error.detail.splitlines()[0])
        return 0
    run.state, run.attempt, run.orchestrator_id = RunState.SUBMITTED, attempt, made
    run.submitted_at, run.heartbeat_at = clock.now(), None
    if attempt > 1:
        await audit.record(session, ACTOR, "run.resubmit", run.id, because, attempt=attempt)
    return 1
