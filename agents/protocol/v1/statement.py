"""Attestations: in-toto Statements v1 in DSSE envelopes, as trainer, gate and people sign them.

https://github.com/in-toto/attestation/tree/main/spec/v1 (statement), `slsa.dev/provenance/v1` (training),
`in-toto.io/attestation/test-result/v0.1` (gate); for a person's approval there is no standard predicate.
"""

from enum import Enum
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from agents.protocol.v1.canonical import canonical_json, strict_json
from agents.protocol.v1.release import Frozen, Name, Sha256

STATEMENT_PAYLOAD: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
APPROVAL: Final = "urn:fleetloop:attestation:approval:v1"
TRAINING_BUILD: Final = "urn:fleetloop:build:training:v1"
STATEMENT_BYTES: Final = 512 << 10

Words = Annotated[str, StringConstraints(max_length=500)]


class StatementError(ValueError):
    """A statement that does not say what it should, or says it in two ways."""


class Digest(Frozen):
    sha256: Sha256


class Subject(Frozen):
    """What a statement is about: its digest counts, the name is for people."""

    name: str = Field(default="", max_length=200)
    digest: Digest


class Resource(Frozen):
    """An in-toto ResourceDescriptor, as far as it is used here."""

    name: str = Field(default="", max_length=200)
    uri: str | None = Field(default=None, max_length=500)
    digest: dict[str, Annotated[str, StringConstraints(max_length=128)]] = Field(default_factory=dict, max_length=8)


class Camel(Frozen):
    """The field names of the predicates' specifications."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, defer_build=True)


class BuildDefinition(Camel):
    build_type: Words = Field(alias="buildType")
    external_parameters: dict[str, Any] = Field(alias="externalParameters")
    resolved_dependencies: tuple[Resource, ...] = Field(alias="resolvedDependencies", max_length=1000)


class Builder(Frozen):
    id: Words


class BuildMetadata(Camel):
    invocation_id: Words = Field(alias="invocationId")
    started_on: AwareDatetime | None = Field(default=None, alias="startedOn")
    finished_on: AwareDatetime = Field(alias="finishedOn")


class RunDetails(Camel):
    builder: Builder
    metadata: BuildMetadata


class Provenance(Camel):
    """How a model version was trained: `resolvedDependencies` name dataset, parent and code by digest."""

    build_definition: BuildDefinition = Field(alias="buildDefinition")
    run_details: RunDetails = Field(alias="runDetails")

    @property
    def made_at(self) -> AwareDatetime:
        return self.run_details.metadata.finished_on


class Result(str, Enum):
    PASSED = "PASSED"
    WARNED = "WARNED"
    FAILED = "FAILED"


TestName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}/[\x20-\x7e]{1,200}$")]


class TestResult(Camel):
    """What the gate found. Tests are named `DEVICE_CLASS/PART`; `configuration` names suites, policy and simulator.

    WARNED: every part that guards against harm passed, and a claimed improvement was not shown.
    `decidedAt` is an addition of ours: the predicate has no time of its own.
    """

    __test__ = False  # pytest takes it for one of its own otherwise
    result: Result
    configuration: tuple[Resource, ...] = Field(min_length=1, max_length=200)
    passed_tests: tuple[TestName, ...] = Field(default=(), alias="passedTests", max_length=2000)
    warned_tests: tuple[TestName, ...] = Field(default=(), alias="warnedTests", max_length=2000)
    failed_tests: tuple[TestName, ...] = Field(default=(), alias="failedTests", max_length=2000)
    url: str | None = Field(default=None, max_length=500)
    decided_at: AwareDatetime = Field(alias="decidedAt")

    @property
    def made_at(self) -> AwareDatetime:
        return self.decided_at


class Approval(Camel):
    """One person's word for one release: what may go where, how far, and until when it may be begun.

    `accepts` is the worst gate result this person approves of; `way_back` says that the release is the return from
    another one, approved together with it.
    """

    release_digest: Sha256 = Field(alias="releaseDigest")
    counter: int = Field(ge=1)
    model: Name
    version: int = Field(ge=1)
    device_classes: tuple[Name, ...] = Field(alias="deviceClasses", min_length=1, max_length=64)
    widest_stage: float = Field(alias="widestStage", gt=0, le=1, allow_inf_nan=False)
    accepts: Literal[Result.PASSED, Result.WARNED] = Result.PASSED
    way_back: bool = Field(default=False, alias="wayBack")
    approver: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    reason: Words = ""
    approved_at: AwareDatetime = Field(alias="approvedAt")
    not_after: AwareDatetime = Field(alias="notAfter")

    @property
    def made_at(self) -> AwareDatetime:
        return self.approved_at


Predicate = Provenance | TestResult | Approval
PREDICATES: Final[dict[str, type[Provenance] | type[TestResult] | type[Approval]]] = {
    PROVENANCE: Provenance,
    TEST_RESULT: TestResult,
    APPROVAL: Approval,
}


class Statement(Frozen):
    """One subject, one predicate."""

    subject: Subject
    predicate_type: str
    predicate: Predicate


class _Raw(Camel):
    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1, max_length=1)
    predicate_type: str = Field(alias="predicateType", max_length=200)
    predicate: dict[str, Any]


def statement_bytes(subject: str, digest: str, predicate_type: str, predicate: Predicate) -> bytes:
    """Return the canonical bytes to sign."""
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": subject, "digest": {"sha256": digest}}],
            "predicateType": predicate_type,
            "predicate": predicate.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
    )


def read_statement(payload: bytes) -> Statement:
    """Return what a signed payload says.

    Raises:
        StatementError: not canonical JSON, more than one subject, an unknown or ill-formed predicate.
    """
    try:
        plain = strict_json(payload, STATEMENT_BYTES)
        raw = _Raw.model_validate(plain)
        predicate = _kind(raw.predicate_type).model_validate(raw.predicate)
    except ValueError as error:  # pydantic's error is one too
        raise StatementError(f"not a statement: {str(error)[:300]}") from error
    # Only one spelling is taken: what a person was shown and what a device reads cannot differ.
    if canonical_json(plain) != payload:
        raise StatementError("the statement is not canonical JSON")
    return Statement(subject=raw.subject[0], predicate_type=raw.predicate_type, predicate=predicate)


def _kind(predicate_type: str) -> type[Provenance] | type[TestResult] | type[Approval]:
    kind = PREDICATES.get(predicate_type)
    if kind is None:
        raise StatementError(f"predicate {predicate_type[:100]!r} is not known here")
    return kind
