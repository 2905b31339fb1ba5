"""Suites, evaluations and gates as the API takes and gives them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from control_plane.evaluation.domain import CaseStatus, Verdict
from control_plane.kit.pages import Schema

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Short = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class FileRef(Schema):
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class Lenient(BaseModel):
    """A file written by a workload: unknown fields are its own business."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True)


class Scenario(Lenient):
    id: Short
    seed: int | None = None
    cluster: str = Field(default="", max_length=200)
    tags: list[Short] = Field(default_factory=list, max_length=32)


class SuiteFile(Lenient):
    """suite.json of the workload contract."""

    schema_: Literal["fleetloop.suite/v1"] = Field(alias="schema")
    workload: Short
    suite: Short
    kind: Literal["nominal", "regression", "field"]
    simulator: Short
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
    created_at: datetime


class EvaluationCreate(Schema):
    content_digest: Sha256
    suite: Sha256
    run_id: str | None = None


class EvaluationItem(Schema):
    """`done` counts scenarios that have a result; `missing` are the first places in the suite that have none."""

    id: str
    key: str
    content_digest: str
    suite: str
    suite_name: str
    scenarios: int
    done: int
    missing: list[int]
    means: dict[str, float]
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


class FlipItem(Schema):
    suite: str
    scenario: str
    cluster: str
    broke: bool


class GateItem(Schema):
    """`attempt` counts how often versions of this model were put before the gate on these suites."""

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
    created_at: datetime


class StopItem(Schema):
    enough: bool
    because: str
