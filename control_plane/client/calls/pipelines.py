"""Pipelines and runs."""

from typing import Any

from control_plane.client.ask import Ask, Call, Pages, Walk, create, get, post, put, segment
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


class PipelinesCalls:
    @Call
    def put_pipeline(self, name: str, body: PipelinePut) -> Ask[PipelineItem]:
        """Make or change a pipeline."""
        return put(PipelineItem, f"/pipelines/{segment(name)}", body)

    @Call
    def get_pipeline(self, name: str) -> Ask[PipelineItem]:
        """Return one pipeline."""
        return get(PipelineItem, f"/pipelines/{segment(name)}")

    @Call
    def list_pipelines(self) -> Ask[list[PipelineItem]]:
        """List all pipelines."""
        return get(list[PipelineItem], "/pipelines")

    @Call
    def request_run(self, pipeline: str, body: RunCreate, key: str | None = None) -> Ask[RunItem]:
        """Ask for a run of a pipeline."""
        return create(RunItem, f"/pipelines/{segment(pipeline)}/runs", body, key)

    @Call
    def get_run(self, run_id: str) -> Ask[RunItem]:
        """Return one run with its steps."""
        return get(RunItem, f"/runs/{segment(run_id)}")

    @Walk
    def list_runs(self, /, **query: Any) -> Pages[RunItem]:
        """Walk runs, newest first; `pipeline=`."""
        return Pages(RunItem, "/runs", query)

    @Call
    def heartbeat_run(self, run_id: str, attempt: int) -> Ask[RunItem]:
        """Say that an attempt is alive."""
        return post(RunItem, f"/runs/{segment(run_id)}/heartbeat", Heartbeat(attempt=attempt))

    @Call
    def put_step(self, run_id: str, name: str, body: StepPut) -> Ask[RunItem]:
        """Report a step of a run."""
        return put(RunItem, f"/runs/{segment(run_id)}/steps/{segment(name)}", body)

    @Call
    def finish_run(self, run_id: str, body: RunFinish) -> Ask[RunItem]:
        """Say how a run ended."""
        return post(RunItem, f"/runs/{segment(run_id)}/finish", body)

    @Call
    def cancel_run(self, run_id: str, body: RunCancel) -> Ask[RunItem]:
        """Stop listening to a run."""
        return post(RunItem, f"/runs/{segment(run_id)}/cancel", body)
