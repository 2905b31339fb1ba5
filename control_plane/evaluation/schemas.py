"""Suites, evaluations and gates as the API takes and gives them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from control_plane.evaluation.domain import CaseStatus, ScenarioState, Verdict
from control_plane.kit.pages import Lenient, Schema
from control_plane.telemetry.domain import MAX_STEPS, ReplayRobot, ReplayStep, ReplayWorld

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Short = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class FileRef(Schema):
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class Scenario(Lenient):
    id: Short
    seed: int | None = None
    cluster: str = Field(default="", max_length=200)
    tags: list[Short] = Field(default_factory=list, max_length=32)
    params: dict[str, Any] = Field(default_factory=dict)
    repeats: str = Field(default="", max_length=200)
    source: str = Field(default="", max_length=200)
    fingerprint: str = Field(default="", max_length=64)


class MetricDefinition(Lenient):
    """Which code decides what a metric means."""

    name: Short
    sha256: Sha256


class SuiteFile(Lenient):
    """suite.json of the workload contract.

    Of a scenario, `repeats` names the situation that it drives with another seed, `source` the field event it was made
    from; `fingerprint` is computed from `params` where it is not given.
    """

    schema_: Literal["fleetloop.suite/v1"] = Field(alias="schema")
    workload: Short
    suite: Short
    kind: Literal["nominal", "regression", "field", "reproduction", "holdout"]
    simulator: Short
    metrics: MetricDefinition | None = None
    scenarios: list[Scenario] = Field(min_length=1, max_length=100_000)


class ResultLine(Lenient):
    """One line of results.jsonl."""

    suite: Short
    scenario: Short
    seed: int | None = None
    cluster: str = Field(default="", max_length=200)
    model_sha256: Sha256
    simulator: Short
    status: CaseStatus
    metrics: dict[str, float]
    evidence_sha256: Sha256


class ReplayOutcome(Lenient):
    words: str = Field(min_length=1, max_length=300)
    metrics: dict[str, float]


class ReplayFile(Lenient):
    """replay/SCENARIO.json of the workload contract: what one model did in one scenario."""

    schema_: Literal["fleetloop.replay/v1"] = Field(alias="schema")
    suite: Short
    scenario: Short
    model_sha256: Sha256
    simulator: Short
    dt_s: float = Field(gt=0)
    world: ReplayWorld
    robot: ReplayRobot
    steps: list[ReplayStep] = Field(min_length=1, max_length=MAX_STEPS)
    outcome: ReplayOutcome


class SuiteCreate(Schema):
    """`file` is a suite.json in the object store."""

    model: str
    file: FileRef


class SuiteItem(Schema):
    digest: str
    name: str
    kind: str
    model: str
    simulator: str
    size_bytes: int
    scenarios: int
    tags: dict[str, int]
    version: int
    metric_definition: dict[str, str]
    created_at: datetime


class EvaluationCreate(Schema):
    content_digest: Sha256
    suite: Sha256
    run_id: str | None = None


class EvaluationItem(Schema):
    """`done` counts scenarios that have a result; `missing` are the first places in the suite that have none.

    `nondeterminism` lists scenarios that came out differently when they were run again; the first result counts.
    """

    id: str
    key: str
    content_digest: str
    suite: str
    suite_name: str
    scenarios: int
    done: int
    missing: list[int]
    means: dict[str, float]
    nondeterminism: list[str]
    created_at: datetime


class CaseItem(Schema):
    """One model in one scenario; `cluster` is what dependent scenarios share."""

    scenario: str
    cluster: str
    seed: int | None
    status: CaseStatus
    metrics: dict[str, float]
    evidence_sha256: str
    job_key: str


class MetricPairItem(Schema):
    """Means of a metric over the scenarios that both have; in how many the second's value is higher, and lower.

    `yes_or_no`: every value is 0 or 1, so that a mean is the share of scenarios in which it happened.
    """

    metric: str
    scenarios: int
    first: float
    second: float
    yes_or_no: bool
    higher: int
    lower: int


class SuiteComparison(Schema):
    """What two versions did in one suite; `common_scenarios` is what their means are over."""

    suite: str
    suite_name: str
    first_scenarios: int
    second_scenarios: int
    common_scenarios: int
    metrics: list[MetricPairItem]


class ResultsCreate(Schema):
    job_key: str = Field(max_length=200)
    file: FileRef


class GateCreate(Schema):
    """Ask the gate: evaluations of the candidate and, where there is one, the champion, by suite.

    `device_classes`: whose robot the simulations are of; the gate vouches for these and no others.
    """

    model: str
    candidate: Sha256
    champion: Sha256 | None = None
    suites: list[Sha256] = Field(min_length=1, max_length=32)
    device_classes: list[Name] = Field(default_factory=list, max_length=64)


class PartItem(Schema):
    suite: str
    rule: str
    verdict: Verdict
    because: str
    figures: dict[str, Any]
    metric: str = ""


class FlipItem(Schema):
    suite: str
    scenario: str
    cluster: str
    broke: bool
    metric: str = ""
    grave: bool = False


class GateItem(Schema):
    """`attempt` counts versions of this model that were put before the gate, `looks` candidates by suite digest.

    A look is a gate that named the suite; one that was decided early may have had no result there (`evidence.results`).

    `evidence_sha256` names the file in the object store that holds all that decided; "" for gates from before.
    """

    id: str
    model: str
    candidate: str
    champion: str | None
    policy_digest: str
    evidence: dict[str, Any]
    attempt: int
    verdict: Verdict
    because: str
    parts: list[PartItem]
    flips: list[FlipItem]
    device_classes: list[str]
    evidence_sha256: str
    looks: dict[str, int]
    created_at: datetime


MOST_REPLAYED = 6
"""How many scenarios of one gate people can look at: more than that nobody does."""


class GateReplayPut(Schema):
    """What one model did in one scenario of a gate; `file` is a replay/SCENARIO.json in the object store."""

    suite: Name
    scenario: Name
    side: Literal["candidate", "champion"]
    file: FileRef


class GateReplayItem(Schema):
    """`outcome` in words; `agrees`: its metrics are those that the gate decided by; `page` shows both models."""

    gate_id: str
    suite: str
    scenario: str
    side: Literal["candidate", "champion"]
    sha256: str
    size_bytes: int
    outcome: str
    agrees: bool
    page: str
    created_at: datetime


class StopItem(Schema):
    """`final`: a guard has failed, so no suite is needed any more."""

    enough: bool
    because: str
    final: bool = False


class AssumptionsBody(Schema):
    """Shares of scenarios: newly failing and mended between equal models, mended by an improvement, failing at all."""

    broke: float = Field(default=0.005, ge=0, lt=1)
    fixed: float = Field(default=0.005, ge=0, lt=1)
    improvement: float = Field(default=0.1, ge=0, lt=1)
    failure_rate: float = Field(default=0.03, ge=0, lt=1)
    power: float = Field(default=0.8, ge=0.5, lt=1)


class PlanCreate(Schema):
    """Without `suites`, the newest of every name; without `policy`, the model's own."""

    model: str
    suites: list[Sha256] = Field(default_factory=list, max_length=32)
    policy: dict[str, Any] | None = None
    assumptions: AssumptionsBody = AssumptionsBody()


class PartPlanItem(Schema):
    """Independent scenarios: planned, needed for the power, and typical where an early look settles it."""

    suite: str
    rule: str
    metric: str
    planned: int
    needed: int | None
    typical: int | None
    power: float | None
    margin_detectable: float | None
    enough: bool
    because: str


class ReplayItem(Schema):
    """Whether the stored evidence, decided again, gives the same bytes; `code` that it is the same code."""

    gate: str
    same: bool
    evidence_sha256: str
    stored_verdict: Verdict
    verdict: Verdict | None
    same_code: bool
    differences: list[str]


class PathItem(Schema):
    """How the evidence of one part grew: e-values by name after so many scenarios, and where each decides."""

    suite: str
    rule: str
    metric: str
    seen: list[int]
    e_values: dict[str, list[float | None]]
    needed: dict[str, float]


class BacktestCreate(Schema):
    policy: dict[str, Any]
    model: str | None = None


class BacktestLine(Schema):
    """`truth`: what the field said later, else what the gate said then (`by`)."""

    gate: str
    stored: Verdict
    verdict: Verdict
    truth: Literal["good", "bad", "unknown"]
    by: Literal["field", "gate"]


class ShareItem(Schema):
    hits: int
    of: int
    share: float | None
    low: float
    high: float


class Backtest(Schema):
    """How often the policy would have passed what was bad and not passed what was good, with 95 % intervals."""

    gates: int
    skipped: int
    false_pass: ShareItem
    false_block: ShareItem
    lines: list[BacktestLine]


class ScenarioCheck(Schema):
    """What came of driving an incident again with the model that was to blame, over some seeds."""

    guilty: Sha256
    recording: Sha256 | None = None
    seeds: int = Field(ge=0, le=1000)
    failures: int = Field(ge=0, le=1000)


class ScenarioWish(Schema):
    """People keep an incident as a regression test, or take it out."""

    action: Literal["accept", "retire"]
    reason: str = Field(min_length=1, max_length=500)


class ScenarioItem(Schema):
    model: str
    source: str
    recording: str | None
    guilty: str
    seeds: int
    failures: int
    state: ScenarioState
    because: str
    changed_by: str
    changed_at: datetime


class CellItem(Schema):
    tags: list[str]
    scenarios: int
    events: int
    exposure: float


class CoverageItem(Schema):
    """`driven_not_simulated` are the gaps; `simulated_share` is the share of driven cells that have a scenario."""

    model: str
    exposure_unit: str
    suites: list[str]
    simulated_share: float | None
    driven_not_simulated: list[CellItem]
    cells: list[CellItem]


class RatioItem(Schema):
    low: float
    estimate: float
    high: float


class ReleaseLine(Schema):
    candidate: str
    champion: str
    gate: str
    predicted: RatioItem
    observed: RatioItem | None
    held: bool | None
    inside: bool | None


class PredictionItem(Schema):
    """Ratios of incident rates, candidate to champion: what simulation said and what the field showed."""

    model: str
    releases: list[ReleaseLine]
    known: int
    inside: int
    held: int
    rank_correlation: float | None
    bias: float | None
    predictive: bool | None
    because: str
