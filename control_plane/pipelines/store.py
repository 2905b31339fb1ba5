"""Rows of pipelines and runs."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from control_plane.kit.db import Session
from control_plane.kit.metrics import Family, Measured, measure
from control_plane.pipelines.domain import ENDS
from control_plane.pipelines.models import Pipeline, PipelineRun

RUNS = Family("fleetloop_runs", "Runs of pipelines by state.", ("pipeline", "state"))
RUN_AGE = Family("fleetloop_run_oldest_seconds", "Age of the oldest run that has not ended.", ("pipeline",))
NEWEST_FAILED = Family(
    "fleetloop_run_newest_failed", "1 where the newest ended run of a pipeline failed.", ("pipeline",)
)


async def measures(session: Session) -> list[Measured]:
    newest = """select distinct on (pipeline) pipeline, (state = 'failed')::int as value
                from pipeline_run where finished_at is not null order by pipeline, finished_at desc"""
    oldest = """select pipeline, extract(epoch from now() - min(requested_at)) as value
                from pipeline_run where finished_at is null group by pipeline"""
    states = "select pipeline, state, count(*) as value from pipeline_run group by pipeline, state"
    return [
        await measure(session, RUNS, states),
        await measure(session, RUN_AGE, oldest),
        await measure(session, NEWEST_FAILED, newest),
    ]


async def put_pipeline(session: Session, name: str, values: dict[str, Any]) -> None:
    statement = insert(Pipeline).values(name=name, event_cursor=0, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


async def find_pipeline(session: Session, name: str, *, lock: bool = False) -> Pipeline | None:
    query = select(Pipeline).where(Pipeline.name == name).execution_options(populate_existing=True)
    return await session.scalar(query.with_for_update() if lock else query)


async def list_pipelines(session: Session) -> Sequence[Pipeline]:
    return (await session.scalars(select(Pipeline).order_by(Pipeline.name))).all()


async def claim_pipeline(session: Session, name: str) -> Pipeline | None:
    query = select(Pipeline).where(Pipeline.name == name, Pipeline.enabled).with_for_update(skip_locked=True)
    return await session.scalar(query)


async def find_run(session: Session, run_id: str, *, lock: bool = False) -> PipelineRun | None:
    query = select(PipelineRun).where(PipelineRun.id == run_id).execution_options(populate_existing=True)
    return await session.scalar(query.with_for_update() if lock else query)


async def claim_run(session: Session, run_id: str) -> PipelineRun | None:
    query = select(PipelineRun).where(PipelineRun.id == run_id).with_for_update(skip_locked=True)
    return await session.scalar(query)


async def open_runs(session: Session, pipeline: str | None = None) -> Sequence[str]:
    query = select(PipelineRun.id).where(PipelineRun.state.not_in([state.value for state in ENDS]))
    if pipeline is not None:
        query = query.where(PipelineRun.pipeline == pipeline)
    return (await session.scalars(query.order_by(PipelineRun.id))).all()


async def list_runs(session: Session, *, pipeline: str | None, before: str | None, limit: int) -> Sequence[PipelineRun]:
    query = select(PipelineRun).order_by(PipelineRun.id.desc()).limit(limit)
    if pipeline is not None:
        query = query.where(PipelineRun.pipeline == pipeline)
    return (await session.scalars(query if before is None else query.where(PipelineRun.id < before))).all()
