"""How a device stands in a rollout: one word for its phase, what it runs, and whether it is heard of."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from control_plane.rollout.domain.values import Deployments


class Standing(StrEnum):
    OFFERED = "offered"
    WORKING = "working"
    COMMITTED = "committed"
    RETRYING = "retrying"
    FAILED = "failed"
    REVERTED = "reverted"
    SILENT = "silent"
    RETURNED = "returned"
    QUARANTINED = "quarantined"


OPEN = (Standing.OFFERED, Standing.WORKING, Standing.RETRYING)
"""Not settled yet: what may fall silent."""
HOLDING = (Standing.WORKING, Standing.COMMITTED)
"""May run the release, now or soon."""
SETTLED_PHASES = frozenset({"committed", "idle"})
RUNS_NOTHING_NEW = frozenset({"idle", "offered"})


@dataclass(frozen=True, slots=True)
class Report:
    """What a device last said of itself; `ordered`: whether the rollout still wants it to have the release."""

    phase: str
    reason: str | None
    runs_it: bool
    ordered: bool
    attempts: int = 0


def is_retry(reason: str | None, attempts: int, causes: tuple[str, ...], retries: int) -> bool:
    """Say whether a refusal is of a kind that is tried again, and may be tried once more."""
    return reason in causes and attempts <= retries


def standing_of(report: Report, causes: tuple[str, ...], retries: int) -> Standing:
    """Return the word; only a device that really runs the release has committed it."""
    if report.phase in SETTLED_PHASES and report.runs_it:
        return Standing.COMMITTED
    if report.phase == "refused":
        again = report.ordered and is_retry(report.reason, report.attempts, causes, retries)
        return Standing.RETRYING if again else Standing.FAILED
    if report.phase == "reverted":
        return Standing.REVERTED
    if report.phase in SETTLED_PHASES or report.phase == "offered":
        return Standing.OFFERED if report.ordered else Standing.RETURNED
    return Standing.WORKING


def deployments_of(counts: Mapping[Standing, int], wanted: int) -> Deployments:
    """Sum standings up to what a decision looks at."""
    known = dict.fromkeys(Standing, 0) | dict(counts)
    return Deployments(
        wanted=wanted,
        offered=sum(known.values()),
        committed=known[Standing.COMMITTED],
        failed=known[Standing.FAILED],
        reverted=known[Standing.REVERTED],
        silent=known[Standing.SILENT],
        retrying=known[Standing.RETRYING],
    )


def holding_of(counts: Mapping[Standing, int]) -> int:
    return sum(counts.get(standing, 0) for standing in HOLDING)
