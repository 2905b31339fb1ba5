"""When a pipeline should run, and what to do about a run that fell silent. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

MAX_ATTEMPTS = 20


class RunState(StrEnum):
    REQUESTED = "requested"
    SUBMITTED = "submitted"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


TOLD_FAILED = "run.failed"
"""Outbox topic: a run failed for good."""
ENDS = frozenset({RunState.DONE, RunState.FAILED, RunState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Trigger:
    """`min_events` new incidents, a rate whose interval lies above `expected_rate`, or every `every_s`."""

    min_events: int | None = None
    expected_rate: float | None = None
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the field did since the last run: new incidents, and the lower bound of the running model's rate."""

    now: datetime
    new_events: int
    rate_low: float | None
    last_run_at: datetime | None
    open_run: bool


def why_run(trigger: Trigger, seen: Evidence) -> str | None:
    """Return why a run should be asked for now, or None. Never two runs of one pipeline at once."""
    if seen.open_run:
        return None
    if trigger.min_events is not None and seen.new_events >= trigger.min_events:
        return f"{seen.new_events} new incidents in the field, {trigger.min_events} ask for a run"
    if _above(trigger, seen):
        return f"the field's rate is above {trigger.expected_rate:g} (95 % lower bound {seen.rate_low:.3g})"
    if trigger.every_s is not None and _due(seen, trigger.every_s):
        return f"scheduled every {trigger.every_s:g} s"
    return None


def _above(trigger: Trigger, seen: Evidence) -> bool:
    known = trigger.expected_rate is not None and seen.rate_low is not None and seen.new_events > 0
    return known and (seen.rate_low or 0) > (trigger.expected_rate or 0)


def _due(seen: Evidence, every_s: float) -> bool:
    return seen.last_run_at is None or seen.now - seen.last_run_at >= timedelta(seconds=every_s)


class Care(StrEnum):
    """What a run needs from its keeper."""

    NOTHING = "nothing"
    SUBMIT = "submit"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class SeenRun:
    state: RunState
    attempt: int
    submitted_at: datetime | None
    heartbeat_at: datetime | None
    now: datetime
    timeout_s: float
    start_timeout_s: float


def care_for(run: SeenRun) -> tuple[Care, str]:
    """Say whether a run must be handed to the orchestrator (again). Its own heartbeat is what counts as alive."""
    match run.state:
        case RunState.DONE | RunState.FAILED | RunState.CANCELLED:
            return Care.NOTHING, "it has ended"
        case RunState.REQUESTED:
            return Care.SUBMIT, "it waits to be handed to the orchestrator"
        case RunState.SUBMITTED:
            late = run.submitted_at is None or run.now - run.submitted_at > timedelta(seconds=run.start_timeout_s)
        case RunState.RUNNING:
            late = run.heartbeat_at is None or run.now - run.heartbeat_at > timedelta(seconds=run.timeout_s)
        case _:
            assert_never(run.state)
    if not late:
        return Care.NOTHING, "it is alive"
    if run.attempt >= MAX_ATTEMPTS:
        return Care.FAIL, f"it fell silent {run.attempt} times"
    return Care.SUBMIT, "it fell silent; asked for again, and it goes on from its finished steps"
