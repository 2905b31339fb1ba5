"""What the gate looks at and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

Figure = float | int | str | None


class CaseStatus(StrEnum):
    OK = "ok"
    FAILED = "failed"
    INVALID = "invalid"


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One model in one scenario."""

    scenario: str
    cluster: str
    status: CaseStatus
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PlannedScenario:
    """A scenario of the suite; `cluster` names what it shares with others, "" when it stands alone."""

    scenario: str
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """One model version's results over one suite, with the digests that say under which rules they were made."""

    model_sha256: str
    simulator: str
    suite_sha256: str
    results: tuple[CaseResult, ...]


@dataclass(frozen=True, slots=True)
class PairedSuite:
    """The suite in its own order, the candidate's results, and the champion's if there is a champion."""

    suite: str
    kind: str
    scenarios: tuple[PlannedScenario, ...]
    candidate: Side
    champion: Side | None


@dataclass(frozen=True, slots=True)
class PartVerdict:
    suite: str
    rule: str
    verdict: Verdict
    because: str
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Flip:
    """A scenario in which the two models differ; `broke` is true where the candidate is the worse one."""

    suite: str
    scenario: str
    cluster: str
    broke: bool


@dataclass(frozen=True, slots=True)
class GateDecision:
    verdict: Verdict
    because: str
    parts: tuple[PartVerdict, ...]
    flips: tuple[Flip, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Whether more scenarios of a suite could still change what the gate says about it."""

    enough: bool
    because: str
