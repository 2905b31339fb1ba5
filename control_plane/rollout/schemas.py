"""Rollouts as the API takes and gives them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from agents.protocol.v1.safe_state import MAX_CHARS, check
from control_plane.evaluation.domain import Verdict
from control_plane.kit.pages import Schema
from control_plane.rollout.domain import DAYS, HARM_RATIOS, Control, Gravest, Phase, Plan, Standing, read_plan

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class StageBody(Schema):
    """A share of every stratum; exposure is in the model's unit (metres or seconds) of canary driving."""

    fraction: float = Field(gt=0, le=1)
    max_exposure: float = Field(default=1e9, gt=0)
    deadline_s: float = Field(default=7 * 86400, gt=0)
    min_exposure: float = Field(default=0, ge=0)
    must_prove: bool = True


class WatchBody(Schema):
    """One more count of events that may halt, with its part of alpha."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    kinds: list[Annotated[str, StringConstraints(max_length=40)]] = Field(min_length=1, max_length=32)
    share: float = Field(gt=0, lt=1)


class WindowBody(Schema):
    """When devices may switch, on the wall of an IANA time zone; over midnight where `end` is before `start`."""

    zone: str = Field(max_length=64, examples=["Europe/Berlin"])
    start: str = Field(max_length=5, examples=["22:00"])
    end: str = Field(max_length=5, examples=["05:30"])
    days: list[str] = Field(default_factory=lambda: list(DAYS), min_length=1, max_length=7)
    sites: list[str] = Field(default_factory=list, max_length=1000)


def stage_bodies(fractions: Sequence[float], max_exposure: float, days: float = 7) -> list[StageBody]:
    """Return stages of which the first has to prove that the release is no worse; ValueError on what is no stage."""
    return [
        StageBody(fraction=f, max_exposure=max_exposure, deadline_s=days * 86_400, must_prove=n == 0 and f < 1)
        for n, f in enumerate(fractions)
    ]


def read_window(text: str) -> WindowBody:
    """Read "ZONE HH:MM-HH:MM [DAYS]" as a person writes it; ValueError on anything else."""
    zone, _, rest = text.strip().partition(" ")
    hours, _, days = rest.strip().partition(" ")
    start, dash, end = hours.partition("-")
    if not dash:
        raise ValueError(f'a window is "ZONE HH:MM-HH:MM [DAYS]", as in "Europe/Berlin 22:00-05:00", not {text[:80]!r}')
    named = {"days": [day.strip() for day in days.split(",")]} if days.strip() else {}
    return WindowBody(zone=zone, start=start, end=end, **named)


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
    cell_label: str = Field(default="cell", min_length=1, max_length=100)
    cell_budget: int | None = Field(default=None, ge=1, le=100_000)
    windows: list[WindowBody] = Field(default_factory=list, max_length=100)
    watch: list[WatchBody] = Field(default_factory=list, max_length=8)
    control: Control = Control.CONCURRENT
    settle_share: float = Field(default=1.0, gt=0, le=1)
    silence_s: float | None = Field(default=None, gt=0, le=90 * 86400)
    returns: list[float] = Field(default_factory=lambda: [0.25, 1.0], min_length=1, max_length=10)
    return_s: float = Field(default=3600, gt=0, le=90 * 86400)
    retries: int = Field(default=2, ge=0, le=100)

    @field_validator("safe_state")
    @classmethod
    def _readable(cls, text: str) -> str:
        return check(text)

    def to_plan(self, approvals_needed: int) -> Plan:
        """Return the plan as the decision takes it; raises ValueError on stages that do not widen."""
        plain = self.model_dump(mode="json")
        return read_plan(plain | {"approvals_needed": approvals_needed, "harm_ratios": HARM_RATIOS})


class RolloutCreate(Schema):
    """`override_reason` starts a release whose gate did not pass; it is recorded and shown wherever the rollout is.

    `plan_override` lets a plan go whose stages cannot decide, and says why. `preempt` halts what is under way on these
    devices for this release's sake.
    """

    release: Sha256
    plan: PlanBody
    gate_id: str | None = None
    override_reason: str = Field(default="", max_length=1000)
    plan_override: str = Field(default="", max_length=1000)
    preempt: bool = False
    sites: list[str] | None = None
    start: bool = True


class RolloutPlan(Schema):
    """Ask what a plan needs on these devices before it is started, and of a `release` what speaks against it."""

    model: str
    device_classes: list[str] = Field(min_length=1, max_length=64)
    plan: PlanBody
    sites: list[str] | None = None
    power: float = Field(default=0.8, ge=0.5, le=0.99)
    release: Sha256 | None = None


class DoubtItem(Schema):
    """A sentence about what speaks against a release; `rollout_id` where it is about an earlier rollout."""

    words: str
    rollout_id: str | None = None


class DoubtsItem(Schema):
    """A release and the chosen devices, before it goes out.

    `refusing`: how many devices take no counter as low as `counter`; at least so many unless `all_counted`. `running`:
    how many run its content already. `items` says it in words, with earlier rollouts of its content that were halted.
    """

    counter: int
    devices: int
    refusing: int
    all_counted: bool
    running: int
    items: list[DoubtItem]


class AmountItem(Schema):
    """Canary exposure and how long it takes; None: no amount is enough. `in_time`: within the cap and the deadline."""

    exposure: float | None
    days: float | None
    in_time: bool


class StageNeedItem(Schema):
    """What one stage needs to decide on a release that is equal, or has `ratio` times the events; None: never enough.

    `to_see` is for halting one with so many events. `to_prove` is for showing that an equal one is no worse, which is
    the same for every ratio, and null where the stage need not. Both are null in forecasts kept from before.
    """

    stage: int
    fraction: float
    canary_devices: int
    control_devices: int
    ratio: float
    exposure_needed: float | None
    days_needed: float | None
    can_decide: bool
    because: str
    to_see: AmountItem | None = None
    to_prove: AmountItem | None = None


class ForecastItem(Schema):
    """`known` is false where the fleet has no history to plan by; `frailty` is the variance between its devices.

    `doubts` is there if a release was asked about.
    """

    known: bool
    can_decide: bool
    because: str
    unit: str
    exposure_per_day: float
    events_per_exposure: float | None
    frailty: float
    needs: list[StageNeedItem]
    doubts: DoubtsItem | None = None


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
    wave: int
    preempts: list[str]
    preempted_by: str
    plan_override: str
    forecast: dict[str, Any]
    created_by: str
    created_at: datetime


class TallyItem(Schema):
    """How many devices of one stratum stand how."""

    site: str
    device_class: str
    standing: Standing
    devices: int


class ReplayedDecision(Schema):
    """One decision made again from what was kept of it; `differs` names what came out otherwise."""

    number: int
    because: str
    differs: list[str]


class RolloutReplay(Schema):
    decisions: int
    different: int
    items: list[ReplayedDecision]


class Explanation(Schema):
    """Sentences for people, the most important first."""

    subject: str
    lines: list[str]


class DecisionItem(Schema):
    number: int
    at: datetime
    phase: Phase
    stage: int
    because: str
    figures: dict[str, Any]


class DeploymentItem(Schema):
    """One device's way through one rollout, as far as it is or was when the rollout ended.

    `offered_content` is what the rollout brings, and what `qualification` was measured with; `active_content` is what
    the device ran when it was last seen by the rollout, which after a way back is another.
    """

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
    standing: Standing
    attempts: int
    cell: str | None
    offered_content: str | None = None


class BaselineItem(Schema):
    """`site` is empty where it holds for every site that has none of its own."""

    device_class: str
    site: str
    release: str
    content_digest: str
    counter: int
    since: datetime


class CostItem(Schema):
    """Sums over `jobs`; `energy_is_estimate` is true if any of them was not measured."""

    jobs: int
    usd: float
    energy_j: float
    energy_is_estimate: bool


class OtherCost(CostItem):
    """What is on no version's bill, such as the making of suites, which all versions share; the dearest kind first."""

    kinds: list[str] = Field(default_factory=list)


class PreventedItem(Schema):
    """Incidents that did not happen since a promotion, with a 95 % interval; below zero: that happened on top.

    `estimate` is null where the interval holds none at all. `exposure` is what was compared, in the model's unit;
    `left_out` was driven where the baseline never was.
    """

    estimate: float | None
    low: float | None
    high: float | None
    exposure: float
    left_out: float


class VersionBill(Schema):
    """What one version cost. `data` is what its training read, which it may share; `total` counts each job once.

    `gate`: the other versions' episodes that its gates weighed (of a job the share that was), and replays for people;
    episodes that several gates weighed are in each of them. `until_promoted` is what it took until then and for its own
    sake, and that of versions tried in vain since the promotion before. `per_prevented` is there only where the version
    has certainly prevented incidents.
    """

    model: str
    version: int
    content_digest: str
    data: CostItem
    training: CostItem
    simulation: CostItem
    gate: CostItem
    total: CostItem
    episodes: int
    per_1000_episodes: CostItem | None
    promoted_at: datetime | None
    baseline: str | None
    until_promoted: CostItem | None
    prevented: PreventedItem | None
    per_prevented: CostItem | None


class ModelBill(Schema):
    """What all versions of a model cost together, each job once."""

    model: str
    versions: int
    promoted: int
    episodes: int
    total: CostItem
    per_1000_episodes: CostItem | None
    per_promoted: CostItem | None


class VersionLedger(Schema):
    """Newest versions first; a model's 200 newest are counted.

    `of_no_version`: all other jobs; with the models' totals it is the ledger's. None where one model was asked for.
    """

    models: list[ModelBill]
    versions: list[VersionBill]
    of_no_version: OtherCost | None = None
