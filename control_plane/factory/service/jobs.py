"""Ask for jobs, hold them, finish them, and see that nobody does so twice."""

from datetime import datetime, timedelta

from control_plane.audit import service as audit
from control_plane.factory.domain import JobState, Outcome, Profile, after_attempt, cost_of, may_start, same_command
from control_plane.factory.models import Job
from control_plane.factory.schemas import (
    AttemptCreate,
    AttemptFinish,
    AttemptRenew,
    FileRef,
    JobCreate,
    JobItem,
    JobSpec,
)
from control_plane.factory.service.clusters import placed, profile_of
from control_plane.factory.store import jobs as store
from control_plane.factory.store import meters
from control_plane.kit import clock, tracing
from control_plane.kit.db import Session
from control_plane.kit.errors import Conflict, NotFound
from control_plane.kit.objects import ObjectStore
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.kit.uploads import settle

MAX_ASKERS = 100


async def submit_job(session: Session, body: JobCreate) -> JobItem:
    """Ask for a job; a key that is known returns the job that has it, and a failed one is queued and placed again."""
    job = await store.find_job(session, body.key, lock=True)
    if job is None and await _insert(session, body):
        return _item(await _job(session, body.key))
    job = job or await _job(session, body.key, lock=True)  # somebody else was quicker
    if not _same(JobSpec.model_validate(job.spec), body.spec):
        raise Conflict(f"job {body.key} exists with another specification; its key must change with it")
    if job.state == JobState.FAILED:
        job.cluster, job.placement = await placed(session, body)
        job.state, job.attempt, job.failure, job.cancel_reason = JobState.QUEUED, 0, None, None
        job.asked, job.spec, job.wanted_by = job.asked + 1, body.spec.model_dump(mode="json"), []
        job.traceparent = tracing.header()
    _want(job, body.run_id)
    return _item(job)


def _same(one: JobSpec, other: JobSpec) -> bool:
    return same_command(one.command, other.command) and one.model_copy(update={"command": other.command}) == other


def _want(job: Job, run_id: str | None) -> None:
    """Note that a further run waits for the job: cancelling the first one must not take it away from it."""
    askers = [job.run_id, *job.wanted_by]
    if run_id is not None and run_id not in askers and len(askers) < MAX_ASKERS:
        job.wanted_by = [*job.wanted_by, run_id]


async def _insert(session: Session, body: JobCreate) -> bool:
    cluster, placement = await placed(session, body)
    values = body.model_dump(exclude={"place"}) | {"cluster": cluster, "placement": placement}
    return await store.insert_job(session, values | {"state": JobState.QUEUED, "traceparent": tracing.header()})


async def cancel_job(session: Session, actor: str, key: str, reason: str) -> JobItem:
    """End a job that nobody holds, wish one away that runs: its wrapper sees it. One that is over stays as it is."""
    job = await _job(session, key, lock=True)
    if _cancel(job, reason):
        await audit.record(session, actor, "job.cancel", key, reason)
    return _item(job)


async def cancel_jobs(session: Session, run_id: str, reason: str) -> None:
    """Cancel what a run has asked for and what is not over, as part of cancelling the run; not what others wait for."""
    for job in await store.lock_unfinished(session, run_id):
        others = [asker for asker in (job.run_id, *job.wanted_by) if asker not in (run_id, None)]
        if others:
            job.run_id, job.wanted_by = others[0], others[1:]
        else:
            _cancel(job, reason)


def _cancel(job: Job, reason: str) -> bool:
    if job.cancel_reason is not None or job.state not in (JobState.QUEUED, JobState.RUNNING):
        return False
    job.cancel_reason = reason
    if may_start(JobState(job.state), job.lease_until, clock.now()):  # nobody holds it who would see the wish
        job.state, job.failure, job.finished_at = JobState.FAILED, f"cancelled: {reason}"[:4000], clock.now()
    return True


async def start_attempt(session: Session, key: str, body: AttemptCreate) -> JobItem:
    job = await _job(session, key, lock=True)
    now = clock.now()
    if job.state == JobState.RUNNING and job.holder == body.holder:
        return _item(job)  # the answer to the first request was lost
    if not may_start(JobState(job.state), job.lease_until, now):
        raise Conflict(f"job {key} is {job.state}, held by {job.holder}", code="job_not_free")
    turn = (job.asked, job.attempt + 1)
    if turn != (body.asked or turn[0], body.attempt or turn[1]):
        raise Conflict(f"job {key} is at attempt {turn[1]} of asking {turn[0]}", code="job_not_free")
    job.state, job.attempt, job.holder = JobState.RUNNING, job.attempt + 1, body.holder
    job.started_at, job.lease_until = now, now + timedelta(seconds=body.lease_s)
    job.progress, job.note = 0.0, ""
    if body.gpu_ids:
        used = {"job": key, "asked": job.asked, "attempt": job.attempt, "cluster": job.cluster, "began_at": now}
        await meters.begin_use(session, used | {"node": body.node, "gpu_ids": body.gpu_ids})
    return _item(job)


async def renew_attempt(session: Session, key: str, body: AttemptRenew) -> JobItem:
    job = await _held(session, key, body.attempt, body.holder)
    job.lease_until = clock.now() + timedelta(seconds=body.lease_s)
    job.progress, job.note = body.progress, body.note
    return _item(job)


async def finish_attempt(session: Session, objects: ObjectStore, key: str, body: AttemptFinish) -> JobItem:
    """Close an attempt. `done` is believed only if every output is in the object store with its size."""
    job = await _job(session, key, lock=True)
    if job.state != JobState.RUNNING and (job.attempt, job.holder) == (body.attempt, body.holder):
        return _item(job)  # the answer to the first request was lost
    _must_hold(job, body.attempt, body.holder)
    outcome, failure = body.outcome, body.failure
    if outcome is Outcome.DONE:
        wrong = await _missing(objects, body.outputs)
        if wrong:
            outcome, failure = Outcome.FAILED, wrong
    cluster = await store.find_cluster(session, job.cluster)
    profile = profile_of(cluster) if cluster else Profile(0, 0)
    cost = cost_of(profile, body.wall_s, body.cpu_s, body.energy_j, body.gpu_s)
    job.state, job.finished_at, job.lease_until = _next_state(job, outcome), clock.now(), None
    job.failure = None if outcome is Outcome.DONE else failure
    job.outputs = {p: r.model_dump() for p, r in (body.outputs or {}).items()} if outcome is Outcome.DONE else None
    job.progress = 1.0 if outcome is Outcome.DONE else job.progress
    _add_usage(job, body)
    charged = 0.0 if body.energy_j is not None else profile.gpu_watts * body.gpu_s
    await meters.end_use(session, key, job.asked, job.attempt, clock.now(), charged)
    job.usd, job.energy_j = job.usd + cost.usd, job.energy_j + cost.energy_j
    job.energy_is_estimate = cost.energy_is_estimate
    return _item(job)


def _next_state(job: Job, outcome: Outcome) -> JobState:
    return after_attempt(outcome, job.attempt, cancelled=job.cancel_reason is not None)


async def _missing(objects: ObjectStore, outputs: dict[str, FileRef] | None) -> str | None:
    if not outputs:
        return "the job wrote no outputs"
    for path, ref in outputs.items():
        if await settle(objects, ref.sha256, ref.size_bytes) is None:
            return f"output {path} says {ref.sha256[:12]} of {ref.size_bytes} bytes, which is not in the object store"
    return None


def _add_usage(job: Job, body: AttemptFinish) -> None:
    job.wall_s, job.cpu_s, job.gpu_s = job.wall_s + body.wall_s, job.cpu_s + body.cpu_s, job.gpu_s + body.gpu_s


async def get_job(session: Session, key: str) -> JobItem:
    return _item(await _job(session, key))


async def list_jobs(
    session: Session,
    *,
    run_id: str | None = None,
    state: JobState | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page[JobItem]:
    found = await store.list_jobs(session, run_id=run_id, state=state, before=decode_cursor(after), limit=limit + 1)
    return page_of([_item(job) for job in found], limit, lambda item: item.key)


async def _job(session: Session, key: str, *, lock: bool = False) -> Job:
    job = await store.find_job(session, key, lock=lock)
    if job is None:
        raise NotFound(f"there is no job {key}")
    return job


async def _held(session: Session, key: str, attempt: int, holder: str) -> Job:
    job = await _job(session, key, lock=True)
    _must_hold(job, attempt, holder)
    return job


def _must_hold(job: Job, attempt: int, holder: str) -> None:
    if job.state != JobState.RUNNING or job.attempt != attempt or job.holder != holder:
        raise Conflict(f"attempt {attempt} of job {job.key} is no longer {holder}'s", code="attempt_lost")


def _item(job: Job) -> JobItem:
    held_s, silent_s = _lease_s(job, clock.now())
    names = set(JobItem.model_fields) - {"held_s", "silent_s"}
    values = {name: getattr(job, name) for name in names}
    return JobItem.model_validate(values | {"held_s": held_s, "silent_s": silent_s})


def _lease_s(job: Job, now: datetime) -> tuple[float, float]:
    """Return for how long the attempt is held and its holder silent; said here, so that no other clock need agree."""
    if job.state != JobState.RUNNING or job.started_at is None or job.lease_until is None:
        return 0.0, 0.0
    return (now - job.started_at).total_seconds(), max(0.0, (now - job.lease_until).total_seconds())
