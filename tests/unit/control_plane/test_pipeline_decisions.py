"""When a run is asked for, and what a run that fell silent needs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.factory.domain import MAX_ATTEMPTS, JobState, Outcome, Profile, after_attempt, cost_of, may_start
from control_plane.pipelines.domain import MAX_ATTEMPTS as MAX_RUNS
from control_plane.pipelines.domain import Care, Evidence, RunState, SeenRun, Trigger, care_for, why_run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOTHING = Evidence(NOW, 0, None, None, open_run=False)
RUN = SeenRun(RunState.RUNNING, 1, NOW, NOW, NOW, 20.0, 90.0)


@pytest.mark.parametrize(
    ("trigger", "evidence", "runs"),
    [
        (Trigger(), NOTHING, False),
        (Trigger(min_events=3), replace(NOTHING, new_events=2), False),
        (Trigger(min_events=3), replace(NOTHING, new_events=3), True),
        (Trigger(min_events=3), replace(NOTHING, new_events=9, open_run=True), False),
        (Trigger(expected_rate=0.1), replace(NOTHING, rate_low=0.2), False),
        (Trigger(expected_rate=0.1), replace(NOTHING, rate_low=0.2, new_events=1), True),
        (Trigger(expected_rate=0.1), replace(NOTHING, rate_low=0.1, new_events=1), False),
        (Trigger(every_s=60), NOTHING, True),
        (Trigger(every_s=60), replace(NOTHING, last_run_at=NOW - timedelta(seconds=59)), False),
        (Trigger(every_s=60), replace(NOTHING, last_run_at=NOW - timedelta(seconds=60)), True),
        (Trigger(every_s=60), replace(NOTHING, open_run=True), False),
    ],
)
def test_why_run(trigger: Trigger, evidence: Evidence, *, runs: bool) -> None:
    assert (why_run(trigger, evidence) is not None) is runs


@pytest.mark.parametrize(
    ("run", "care"),
    [
        (replace(RUN, state=RunState.REQUESTED), Care.SUBMIT),
        (replace(RUN, state=RunState.SUBMITTED), Care.NOTHING),
        (replace(RUN, state=RunState.SUBMITTED, now=NOW + timedelta(seconds=91)), Care.SUBMIT),
        (replace(RUN, now=NOW + timedelta(seconds=20)), Care.NOTHING),
        (replace(RUN, now=NOW + timedelta(seconds=21)), Care.SUBMIT),
        (replace(RUN, heartbeat_at=None), Care.SUBMIT),
        (replace(RUN, now=NOW + timedelta(seconds=21), attempt=MAX_RUNS), Care.FAIL),
        *[(replace(RUN, state=end, heartbeat_at=None), Care.NOTHING) for end in ("done", "failed", "cancelled")],
    ],
)
def test_care(run: SeenRun, care: Care) -> None:
    found, because = care_for(replace(run, state=RunState(run.state)))
    assert found is care
    assert because


def test_a_lost_attempt_is_tried_again_a_failed_one_is_not() -> None:
    assert after_attempt(Outcome.LOST, 1) is JobState.QUEUED
    assert after_attempt(Outcome.LOST, MAX_ATTEMPTS) is JobState.FAILED
    assert after_attempt(Outcome.FAILED, 1) is JobState.FAILED
    assert after_attempt(Outcome.DONE, 1) is JobState.DONE


def test_a_job_is_free_when_nobody_holds_it_or_its_holder_fell_silent() -> None:
    assert may_start(JobState.QUEUED, None, NOW)
    assert not may_start(JobState.RUNNING, NOW + timedelta(seconds=1), NOW)
    assert may_start(JobState.RUNNING, NOW - timedelta(seconds=1), NOW)
    assert not may_start(JobState.DONE, None, NOW)
    assert not may_start(JobState.FAILED, None, NOW)


def test_energy_is_measured_or_said_to_be_estimated() -> None:
    profile = Profile(usd_per_hour=3.6, watts=50)
    measured, estimated = cost_of(profile, 100, 10, 7.0), cost_of(profile, 100, 10, None)
    assert (measured.usd, measured.energy_j, measured.energy_is_estimate) == (pytest.approx(0.1), 7.0, False)
    assert (estimated.energy_j, estimated.energy_is_estimate) == (500, True)
