"""Ask for jobs, hold them, finish them, add up what they cost."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from control_plane.factory import store
from control_plane.factory.domain import (
    JobCost,
    JobState,
    KindCost,
    Outcome,
    Profile,
    after_attempt,
    cost_of,
    may_start,
)
from control_plane.factory.models import Job
from control_plane.factory.schemas import (
    AttemptCreate,
    AttemptFinish,
    AttemptRenew,
    ClusterItem,
    ClusterPut,
    FileRef,
    JobCreate,
    JobItem,
    Ledger,
    LedgerLine,
)
from control_plane.kit import clock
from control_plane.kit.db import Session
from control_plane.kit.errors import Conflict, Invalid, NotFound
from control_plane.kit.objects import ObjectStore
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.kit.uploads import settle

By = Literal["kind", "run", "cluster", "subject"]


async def put_cluster(session: Session, name: str, body: ClusterPut) -> ClusterItem:
    await store.put_cluster(session, name, body.model_dump())
    return ClusterItem(name=name, **body.model_dump())


async def list_clusters(session: Session) -> list[ClusterItem]:
    return [ClusterItem.model_validate(c, from_attributes=True) for c in await store.list_clusters(session)]


async def submit_job(session: Session, body: JobCreate) -> JobItem:
    """Ask for a job; a key that is known returns the job that has it, and a failed one is queued again."""
    if await store.find_cluster(session, body.cluster) is None:
        raise Invalid(f"there is no cluster {body.cluster!r}")
    values = body.model_dump() | {"state": JobState.QUEUED}
    if not await store.insert_job(session, values):
        job = await _job(session, body.key, lock=True)
        if job.spec != values["spec"]:
            raise Conflict(f"job {body.key} exists with another specification; its key must change with it")
        if job.state == JobState.FAILED:
            job.state, job.attempt, job.failure = JobState.QUEUED, 0, None
    return _item(await _job(session, body.key))


async def start_attempt(session: Session, key: str, body: AttemptCreate) -> JobItem:
    job = await _job(session, key, lock=True)
    now = clock.now()
    if job.state == JobState.RUNNING and job.holder == body.holder:
        return _item(job)  # the answer to the first request was lost
    if not may_start(JobState(job.state), job.lease_until, now):
        raise Conflict(f"job {key} is {job.state}, held by {job.holder}", code="job_not_free")
    job.state, job.attempt, job.holder = JobState.RUNNING, job.attempt + 1, body.holder
    job.started_at, job.lease_until = now, now + timedelta(seconds=body.lease_s)
    job.progress, job.note = 0.0, ""
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
    profile = Profile(cluster.usd_per_hour, cluster.watts) if cluster else Profile(0, 0)
    cost = cost_of(profile, body.wall_s, body.cpu_s, body.energy_j)
    job.state, job.finished_at, job.lease_until = after_attempt(outcome, job.attempt), clock.now(), None
    job.failure = None if outcome is Outcome.DONE else failure
    job.outputs = {p: r.model_dump() for p, r in (body.outputs or {}).items()} if outcome is Outcome.DONE else None
    job.progress = 1.0 if outcome is Outcome.DONE else job.progress
    _add_usage(job, body)
    job.usd, job.energy_j = job.usd + cost.usd, job.energy_j + cost.energy_j
    job.energy_is_estimate = cost.energy_is_estimate
    return _item(job)


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


async def ledger(session: Session, by: By, run_id: str | None = None) -> Ledger:
    lines = [LedgerLine.model_validate(line, from_attributes=True) for line in await store.ledger(session, by, run_id)]
    return Ledger(by=by, lines=lines)


async def costs(
    session: Session,
    keys: Sequence[str],
    subjects: Sequence[str] = (),
    runs: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> list[JobCost]:
    """Return what jobs cost: those with these keys or subjects, and those of these kinds in these runs."""
    return [JobCost(**line) for line in await store.costs(session, keys, subjects, runs, kinds)]


async def readers(session: Session, made: Sequence[str], read_by: Sequence[str]) -> set[tuple[str, str]]:
    """Return (key, subject): which jobs on `made` wrote a file that a job on a subject of `read_by` read."""
    return {(line["key"], line["subject"]) for line in await store.readers(session, made, read_by)}


async def spent(session: Session, but: Sequence[str]) -> list[KindCost]:
    """Return by kind what all jobs cost but those with some keys, the dearest kind first."""
    return [KindCost(**line) for line in await store.spent(session, but)]


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
    return JobItem.model_validate(job, from_attributes=True)
