"""Pipelines and runs as the API takes and gives them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from control_plane.kit.pages import Schema
from control_plane.pipelines.domain import RunState

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"


class TriggerBody(Schema):
    """`min_events` new incidents; or a rate (per unit of exposure) above `expected_rate`; or every `every_s`."""

    min_events: int | None = Field(default=None, ge=1)
    expected_rate: float | None = Field(default=None, ge=0)
    every_s: float | None = Field(default=None, gt=0)


class PipelinePut(Schema):
    """`flow` is a name of `python -m flows.run --list`; `params` go to every run."""

    flow: str = Field(pattern=NAME)
    model: str = Field(pattern=NAME)
    params: dict[str, Any] = Field(default_factory=dict)
    trigger: TriggerBody = Field(default_factory=TriggerBody)
    enabled: bool = True


class PipelineItem(PipelinePut):
    name: str
    event_cursor: int
    last_run_at: datetime | None


class RunCreate(Schema):
    """`params` override the pipeline's."""

    params: dict[str, Any] = Field(default_factory=dict)
    because: str = Field(default="asked for by a person", max_length=500)


class RunCancel(Schema):
    reason: str = Field(min_length=1, max_length=500)


class StepItem(Schema):
    """One step of a run; `compute_s` is time spent in jobs, the rest of `seconds` is overhead."""

    state: Literal["running", "done", "failed"]
    started_at: datetime
    seconds: float | None = None
    compute_s: float | None = None
    note: str = ""


class StepPut(Schema):
    attempt: int
    state: Literal["running", "done", "failed"]
    seconds: float | None = Field(default=None, ge=0)
    compute_s: float | None = Field(default=None, ge=0)
    note: str = Field(default="", max_length=1000)


class Heartbeat(Schema):
    """`attempt` is the fencing token: an older attempt is told to stop."""

    attempt: int


class RunFinish(Schema):
    attempt: int
    state: Literal["done", "failed"]
    result: dict[str, Any] = Field(default_factory=dict)
    failure: str | None = Field(default=None, max_length=4000)


class RunItem(Schema):
    id: str
    pipeline: str
    flow: str
    params: dict[str, Any]
    because: str
    requested_by: str
    requested_at: datetime
    state: RunState
    attempt: int
    orchestrator_id: str | None
    submitted_at: datetime | None
    heartbeat_at: datetime | None
    finished_at: datetime | None
    steps: dict[str, StepItem]
    result: dict[str, Any]
    failure: str | None
