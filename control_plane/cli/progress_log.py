"""What the control plane keeps of a run or job, as lines of a log; it keeps no output of commands."""

import time
from collections.abc import Callable
from typing import Annotated

import typer

from control_plane.cli.output import complain, printable
from control_plane.client import Unavailable
from control_plane.factory.schemas import JobItem
from control_plane.pipelines.schemas import RunItem, StepItem

Follow = Annotated[bool, typer.Option("--follow", "-f", help="go on until it has ended")]
LOOK_S = 1.0
Told = tuple[list[str], bool, int]
"""Lines so far, whether no more can come, and the exit status then."""


def run_lines(run: RunItem, jobs: list[JobItem]) -> Told:
    lines = [f"{run.requested_at:%H:%M:%S} {run.pipeline}: asked for by {run.requested_by}, {run.because}"]
    timed = [(step.started_at, _step(name, step)) for name, step in run.steps.items()]
    timed += [(job.started_at or job.created_at, line) for job in jobs for line in job_lines(job)[0]]
    lines += [line for _, line in sorted(timed, key=lambda pair: pair[0])]
    if run.finished_at is not None:
        lines.append(f"{run.finished_at:%H:%M:%S} {run.pipeline}: {run.state}{_why(run.failure)}")
    return lines, run.finished_at is not None, 1 if run.failure else 0


def _step(name: str, step: StepItem) -> str:
    took = "" if step.seconds is None else f" in {step.seconds:.1f} s"
    note = f": {step.note}" if step.note else ""
    return f"{step.started_at:%H:%M:%S} step {name}: {step.state}{took}{note}"


def job_lines(job: JobItem) -> Told:
    at = job.started_at or job.created_at
    name = f"{at:%H:%M:%S} job {job.kind} {job.subject[:12]}".rstrip()
    if job.finished_at is None:
        note = f", {job.note}" if job.note else ""
        return [f"{name}: {job.state}, {job.progress:.0%}{note}"], False, 0
    line = f"{name}: {job.state} in {job.wall_s:.1f} s for {job.usd:.4f} USD{_why(job.failure)}"
    return [line], True, 1 if job.failure else 0


def _why(failure: str | None) -> str:
    return f": {failure}" if failure else ""


def follow(look: Callable[[], Told], *, on: bool) -> int:
    """Print lines as they come up; return 1 once what they tell of has failed, 0 on Ctrl-C."""
    printed: set[str] = set()
    try:
        while True:
            lines, ended, status = _patient(look) if printed else look()
            for line in lines:
                if line not in printed:
                    typer.echo(printable(line))
            printed |= set(lines)
            if ended or not on:
                return status
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        return 0


def _patient(look: Callable[[], Told]) -> Told:
    """Look again; a server that is away for a while does not end what follows it."""
    while True:
        try:
            return look()
        except Unavailable as error:
            complain(error.code, error.detail, error.status)
            time.sleep(LOOK_S)
