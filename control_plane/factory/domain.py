"""What a job may do next, and what it cost.

A job is known by its key: asked for twice it runs once. An attempt holds a lease; when the lease runs out another may
start. Infrastructure failures are tried again, the job's own are not. A back end is never believed: a job is done when
every output of its manifest is in the object store.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

MAX_ATTEMPTS = 4


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Outcome(StrEnum):
    """How an attempt ended: `lost` is the infrastructure's fault."""

    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a cluster's time costs; both figures are the operator's estimates."""

    usd_per_hour: float
    watts: float


@dataclass(frozen=True, slots=True)
class Cost:
    usd: float
    energy_j: float
    energy_is_estimate: bool


class JobCost(NamedTuple):
    """What one job cost in all its attempts, and by what it can be told whose it was."""

    key: str
    kind: str
    run_id: str | None
    subject: str
    usd: float
    energy_j: float
    energy_is_estimate: bool
    asked_at: datetime


class KindCost(NamedTuple):
    """What jobs of one kind cost together."""

    kind: str
    jobs: int
    usd: float
    energy_j: float
    energy_is_estimate: bool


def may_start(state: JobState, lease_until: datetime | None, now: datetime) -> bool:
    """Say whether a new attempt may begin: nobody holds the job, or the holder fell silent."""
    if state is JobState.RUNNING:
        return lease_until is None or lease_until < now
    return state is JobState.QUEUED


def after_attempt(outcome: Outcome, attempt: int) -> JobState:
    match outcome:
        case Outcome.DONE:
            return JobState.DONE
        case Outcome.LOST if attempt < MAX_ATTEMPTS:
            return JobState.QUEUED
        case _:
            return JobState.FAILED


def cost_of(profile: Profile, wall_s: float, cpu_s: float, energy_j: float | None) -> Cost:
    """Price an attempt: wall time at the cluster's rate; energy as measured, else CPU seconds at its watts."""
    measured = energy_j is not None
    return Cost(
        profile.usd_per_hour * wall_s / 3600, energy_j if energy_j is not None else profile.watts * cpu_s, not measured
    )
