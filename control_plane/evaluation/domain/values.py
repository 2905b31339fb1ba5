"""What the gate looks at and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    seed: int | None = None
    evidence_sha256: str = ""


@dataclass(frozen=True, slots=True)
class PlannedScenario:
    """A scenario of the suite; `cluster` names what it shares with others, "" when it stands alone.

    `repeats` names the situation that several scenarios drive with other seeds; `source` the field event it was made
    from; `fingerprint` its rounded parameters without seed and noise.
    """

    scenario: str
    cluster: str = ""
    tags: tuple[str, ...] = ()
    repeats: str = ""
    source: str = ""
    fingerprint: str = ""
    seed: int | None = None

    @property
    def block(self) -> str:
        """What is independent of everything else in the suite."""
        return self.cluster or f"scenario:{self.scenario}"

    @property
    def situation(self) -> str:
        return self.repeats or self.scenario


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
class HoldoutUse:
    """How often a line of candidates has looked at a hidden suite, and what this candidate was told the first time."""

    uses: int
    budget: int
    spent: bool
    answers: tuple["PartVerdict", ...] = ()


@dataclass(frozen=True, slots=True)
class Overlap:
    """Training data and a scenario that are the same thing, or nearly."""

    suite: str
    scenario: str
    because: str


@dataclass(frozen=True, slots=True)
class Trust:
    """How well earlier predictions of the simulator held in the field; `predictive` is None while too few are known."""

    predictive: bool | None
    because: str


@dataclass(frozen=True, slots=True)
class Context:
    """All that decides beside results. `None` means nobody has looked.

    `reviews`: the state of each question about this candidate's flips. `left_out`: by suite, clusters whose incident
    does not happen again in simulation, so that they say nothing about either model.
    """

    device_classes: tuple[str, ...] = ()
    reviews: Mapping[str, str] = field(default_factory=dict)
    overlaps: tuple[Overlap, ...] | None = None
    holdout: Mapping[str, HoldoutUse] = field(default_factory=dict)
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trust: Trust | None = None


@dataclass(frozen=True, slots=True)
class PartVerdict:
    suite: str
    rule: str
    verdict: Verdict
    because: str
    figures: Mapping[str, Figure]
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Flip:
    """A scenario in which the two models differ; `broke` is true where the candidate is the worse one.

    `metric` says in what, `grave` that it is of the gravest kind.
    """

    suite: str
    scenario: str
    cluster: str
    broke: bool
    metric: str = ""
    grave: bool = False


@dataclass(frozen=True, slots=True)
class GateDecision:
    verdict: Verdict
    because: str
    parts: tuple[PartVerdict, ...]
    flips: tuple[Flip, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Whether more scenarios of a suite could still change what the gate says about it.

    `final`: a guard has failed, so nothing that any suite could add makes this candidate pass.
    """

    enough: bool
    because: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Effort:
    """The episodes of one version that one job simulated, and for which candidate's sake.

    `used`: how many of them that candidate's gates weighed; of its own episodes all.
    """

    candidate: str
    evaluation_id: str
    content_digest: str
    run_id: str | None
    job_key: str
    episodes: int
    used: int
