"""What a job may do next, and what it cost.

A job is known by its key: asked for twice it runs once. An attempt holds a lease; when the lease runs out another may
start. Infrastructure failures are tried again, the job's own are not. A back end is never believed: a job is done when
every output of its manifest is in the object store.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

MAX_ATTEMPTS = 4
INTERPRETER = re.compile(r"(/.*/)?python[0-9.]*")


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
    """What a cluster's time costs: a job's hour, a busy core's power, the same of a GPU; all are estimates."""

    usd_per_hour: float
    watts: float
    usd_per_gpu_hour: float = 0.0
    gpu_watts: float = 0.0


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


def same_command(one: Sequence[str], other: Sequence[str]) -> bool:
    """Say whether two commands are one; runners of earlier releases put their interpreter's path for `python`."""
    return _named(one) == _named(other)


def _named(command: Sequence[str]) -> list[str]:
    first, *rest = command
    return ["python" if INTERPRETER.fullmatch(first) else first, *rest]


def after_attempt(outcome: Outcome, attempt: int, *, cancelled: bool = False) -> JobState:
    """Say where a job goes from an attempt; one that nobody wants any more is not tried again."""
    match outcome:
        case Outcome.DONE:
            return JobState.DONE
        case Outcome.LOST if attempt < MAX_ATTEMPTS and not cancelled:
            return JobState.QUEUED
        case _:
            return JobState.FAILED


def cost_of(profile: Profile, wall_s: float, cpu_s: float, energy_j: float | None, gpu_s: float = 0.0) -> Cost:
    """Price an attempt: its time at the cluster's rates; energy as measured, else busy seconds at their power."""
    usd = (profile.usd_per_hour * wall_s + profile.usd_per_gpu_hour * gpu_s) / 3600
    if energy_j is not None:
        return Cost(usd, energy_j, energy_is_estimate=False)
    return Cost(usd, profile.watts * cpu_s + profile.gpu_watts * gpu_s, energy_is_estimate=True)
