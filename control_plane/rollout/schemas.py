"""Rollouts as the API takes and gives them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from agents.protocol.v1.safe_state import MAX_CHARS, check
from control_plane.evaluation.domain import Verdict
from control_plane.kit.pages import Schema
from control_plane.rollout.domain import Gravest, Phase, Plan, Stage

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class StageBody(Schema):
    """A share of every stratum; exposure is in the model's unit (metres or seconds) of canary driving."""

    fraction: float = Field(gt=0, le=1)
    max_exposure: float = Field(default=1e9, gt=0)
    deadline_s: float = Field(default=7 * 86400, gt=0)
    min_exposure: float = Field(default=0, ge=0)
    must_prove: bool = True


class PlanBody(Schema):
    """How a release widens and what stops it; docs/explanation/rollout.md says what each field means."""

    stages: list[StageBody] = Field(min_length=1, max_length=20)
    alpha: float = Field(default=0.05, gt=0, le=0.2)
    margin: float = Field(default=1.0, gt=0)
    gravest: Gravest = Gravest.ANY
    max_failures: int = Field(default=0, ge=0)
    max_failure_fraction: float = Field(default=0.05, ge=0, le=1)
    safe_state: str = Field(default="", max_length=MAX_CHARS)
    site_budget: int | None = Field(default=None, ge=1, le=100_000)
    shadow_s: float = Field(default=0, ge=0, le=7 * 86400)

    @field_validator("safe_state")
    @classmethod
    def _readable(cls, text: str) -> str:
        return check(text)

    def to_plan(self, approvals_needed: int) -> Plan:
        """Return the plan as the decision takes it; raises ValueError on stages that do not widen."""
        plain = self.model_dump(exclude={"stages"})
        stages = tuple(Stage(**stage.model_dump()) for stage in self.stages)
        return Plan(stages=stages, approvals_needed=approvals_needed, **plain)


class RolloutCreate(Schema):
    """`override_reason` starts a release whose gate did not pass; it is recorded and shown wherever the rollout is."""

    release: Sha256
    plan: PlanBody
    gate_id: str | None = None
    override_reason: str = Field(default="", max_length=1000)
    sites: list[str] | None = None
    start: bool = True


class RolloutWish(Schema):
    """What a person wants now; reconcilers make it so."""

    action: Literal["start", "pause", "resume", "halt", "proceed", "extend"]
    reason: str = Field(min_length=1, max_length=1000)
    extra_exposure: float = Field(default=0, ge=0)
    extra_s: float = Field(default=0, ge=0)


class RolloutItem(Schema):
    id: str
    model: str
    release: str
    content_digest: str
    counter: int
    device_classes: list[str]
    sites: list[str] | None
    champion: str | None
    restore_release: str | None
    plan: dict[str, Any]
    gate_id: str | None
    gate_verdict: Verdict | None
    override_reason: str
    wishes: dict[str, Any]
    phase: Phase
    stage: int
    stage_since: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    because: str
    figures: dict[str, Any]
    created_by: str
    created_at: datetime


class DecisionItem(Schema):
    number: int
    at: datetime
    phase: Phase
    stage: int
    because: str
    figures: dict[str, Any]


class DeploymentItem(Schema):
    rollout_id: str
    device_id: str
    site: str
    device_class: str
    offered_at: datetime
    seen_at: datetime
    phase: str
    reason: str | None
    detail: str
    active_content: str | None
    qualification: dict[str, Any]


class BaselineItem(Schema):
    device_class: str
    release: str
    content_digest: str
    counter: int
    since: datetime
