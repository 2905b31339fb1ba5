"""Clusters: places that run jobs. Each sees its jobs through on one back end; the ledger is what counts.

A thread looks at all jobs at once, again and again: first at the back end, then at the ledger, then `next_move` says
what to do. What happened meanwhile, here or elsewhere, makes no difference, so after a restart the same jobs are simply
looked at again.
"""

import contextlib
import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from control_plane.client import Client, ClientError, Unavailable
from control_plane.factory.domain import JobState, Outcome
from control_plane.factory.schemas import AttemptCreate, AttemptFinish, JobItem
from flows.runners.back_ends.interface import BackEnd, BackEndError, Order
from flows.runners.back_ends.local import LocalBackEnd
from flows.runners.wrapper import LEASE_S
from flows.steps.orders import UNSEEN, Act, Move, Phase, Seen, View, holder_tag, next_move, order_name

POLL_S = 0.5
READ_S = 10.0
"""How old what was read of the ledger may be while an order lives: a wish to cancel may have come."""
STAGING_S = 600.0
"""What a cluster's own limit leaves for fetching inputs and sending outputs, beside the job's time-out."""
WAIT_LIMIT_S = 86400.0
GIVE_UP_S = 600.0
"""How long a back end or the control plane may fail without a pause before a job fails here."""
RETRY_S = 5.0
log = logging.getLogger(__name__)


class JobFailedError(RuntimeError):
    """A job failed by its own fault, or too often by the cluster's."""

    def __init__(self, job: JobItem) -> None:
        super().__init__(f"job {job.key} ({job.kind}) failed: {job.failure}")
        self.job = job


@dataclass
class Watched:
    """A job that is seen through: as last read, since when its order waits, and what to tell of its end.

    `failing_since` is when it last began to go wrong with its back end or the ledger, `retry_at` when to try again.
    """

    job: JobItem
    future: Future[JobItem] = field(default_factory=Future)
    waiting_since: float | None = None
    seen: Seen = UNSEEN
    read_at: float = -READ_S
    failing_since: float | None = None
    retry_at: float = 0.0

    @property
    def order(self) -> str:
        number = self.job.attempt + (self.job.state == JobState.QUEUED)
        return order_name(self.job.key, self.job.created_at, self.job.asked, number)


class Cluster:
    """Sees jobs through on one back end."""

    def __init__(
        self,
        client: Client,
        name: str,
        back_end: BackEnd,
        slots: int,
        *,
        wait_limit_s: float = WAIT_LIMIT_S,
        shard_scale: int = 1,
        poll_s: float | None = None,
    ) -> None:
        self.name, self.slots, self.back_end, self.shard_scale = name, slots, back_end, shard_scale
        self._client, self._wait_limit_s, self._poll_s = client, wait_limit_s, poll_s
        self._watched: dict[str, Watched] = {}
        self._lock, self._wake, self._stop = threading.Lock(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def submit(self, job: JobItem) -> Future[JobItem]:
        """See a job through to its end; one that is seen through already is joined.

        What came of it earlier is not remembered here: a job that had failed may have been asked for anew.
        """
        with self._lock:
            watched = self._watched.get(job.key)
            if watched is None or watched.future.done():
                watched = self._watched[job.key] = Watched(job)
                self._start()
        self.wake()
        return watched.future

    def logs(self, job: JobItem) -> str:
        """Return the end of what the wrapper of the job's last attempt printed."""
        return self.back_end.logs(order_name(job.key, job.created_at, job.asked, max(1, job.attempt)))

    def wake(self) -> None:
        self._wake.set()

    def close(self) -> None:
        """Stop looking. What runs in this process ends with it, what runs elsewhere goes on."""
        self._stop.set()
        self.wake()
        if self._thread is not None:
            self._thread.join()
        self.back_end.close()
        for watched in self._watched.values():
            watched.future.cancel()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._see_through, name=f"cluster-{self.name}", daemon=True)
            self._thread.start()

    def _see_through(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                again = self._look()
            except Exception as error:  # a defect of ours; untold, those who wait would do so for ever
                log.exception("cluster %s", self.name)
                again = False
                for each in self._unanswered():
                    each.future.set_exception(error)
            if not again:
                self._wake.wait(self._poll_s or POLL_S)

    def _unanswered(self) -> list[Watched]:
        return [each for each in self._watched.copy().values() if not each.future.done()]

    def _look(self) -> bool:
        """Look at all jobs once; say whether to look again at once."""
        watched = self._unanswered()
        try:
            seen = self.back_end.see([each.order for each in watched]) if watched else {}
            stepped = [self._step_patiently(each, seen.get(each.order, UNSEEN)) for each in watched]
        except (BackEndError, Unavailable) as error:  # it concerns all of them
            for each in watched:
                if not each.future.done():
                    self._bear(each, error)
            return False
        return any(stepped)  # all of them are looked at, whatever the first says

    def _step_patiently(self, watched: Watched, seen: Seen) -> bool:
        """Do the next thing about one job; what is refused about it must not hold up the others."""
        if time.monotonic() < watched.retry_at:
            return False
        try:
            again = self._step(watched, seen)
        except Unavailable:
            raise
        except ClientError as error:
            self._bear(watched, error)
            return False
        except BackEndError as error:
            self._bear(watched, error)
            if watched.future.done() and watched.job.state == JobState.QUEUED:
                self._refused(watched, error)
            return False
        watched.failing_since = None
        return again

    def _bear(self, watched: Watched, error: Exception) -> None:
        """Bear a failure for a while, then tell it to whoever waits for the job."""
        now = time.monotonic()
        watched.failing_since, watched.retry_at = watched.failing_since or now, now + RETRY_S
        log.warning("cluster %s, job %s: %s", self.name, watched.job.key, error)
        if now - watched.failing_since > GIVE_UP_S:
            watched.future.set_exception(error)

    def _refused(self, watched: Watched, error: BackEndError) -> None:
        """Close a job that its back end does not take, so that the ledger does not show it as waiting for ever."""
        with contextlib.suppress(ClientError):
            self._write_off(watched, Move(Act.WRITE_OFF, f"the order is not taken: {error}", Outcome.FAILED))

    def _step(self, watched: Watched, seen: Seen) -> bool:
        """Do the next thing about one job; say whether it may be followed by another at once."""
        if seen.alive and seen == watched.seen and time.monotonic() < watched.read_at + READ_S:
            return False
        # The ledger is read after the back end: if the order had ended, its wrapper has written all it ever will.
        before, watched.job = watched.order, self._client.get_job(watched.job.key)
        watched.seen, watched.read_at, job = seen, time.monotonic(), watched.job
        if job.state in (JobState.DONE, JobState.FAILED):
            return self._end(watched, before, seen)
        if watched.order != before:
            watched.waiting_since = None
            return True
        waits = seen.phase is Phase.WAITING
        watched.waiting_since = (watched.waiting_since or time.monotonic()) if waits else None
        move = next_move(self._view(watched, seen))
        self._act(watched, move)
        return move.act in (Act.WRITE_OFF, Act.DROP)

    def _end(self, watched: Watched, order: str, seen: Seen) -> bool:
        job = watched.job
        if job.state == JobState.DONE:
            watched.future.set_result(job)
            return False
        if job.cancel_reason is not None and seen.alive:
            self.back_end.cancel(order)  # it may wait there for days yet, only to find that nobody wants it
        watched.future.set_exception(JobFailedError(job))
        return False

    def _view(self, watched: Watched, seen: Seen) -> View:
        job, since = watched.job, watched.waiting_since
        return View(
            state=job.state,
            is_ours=(job.holder or "").startswith(holder_tag(watched.order)),
            silent_s=job.silent_s,
            waited_s=time.monotonic() - since if since is not None else 0.0,
            wait_limit_s=self._wait_limit_s,
            seen=seen,
            misfit=self._misfit(job),
        )

    def _misfit(self, job: JobItem) -> str:
        """Say why a job cannot run here: what it made outside of the image it states would not be what it says."""
        if job.spec.image is None or self.back_end.runs_images:
            return ""
        return f"this cluster runs no images, and it asks for {job.spec.image}; kubernetes and osmo do"

    def _act(self, watched: Watched, move: Move) -> None:
        match move.act:
            case Act.WAIT:
                return
            case Act.SUBMIT:
                self.back_end.submit(_order(watched))
            case Act.DROP:
                self.back_end.cancel(watched.order)
                self._write_off(watched, move)
            case Act.WRITE_OFF:
                self._write_off(watched, move)

    def _write_off(self, watched: Watched, move: Move) -> None:
        """Close an attempt that nobody will close: it was never begun, or its holder is gone."""
        job, holder = watched.job, watched.job.holder or ""
        try:
            if job.state == JobState.QUEUED:
                holder = f"{holder_tag(watched.order)}-{self.name}"
                turn = {"asked": job.asked, "attempt": job.attempt + 1}
                job = self._client.start_attempt(job.key, AttemptCreate(holder=holder, lease_s=LEASE_S, **turn))
            self._client.finish_attempt(job.key, _closing(job, holder, move, self.name))
        except ClientError as error:
            if error.code not in ("job_not_free", "attempt_lost"):
                raise  # else somebody was quicker, and the next look shows what came of it


def _closing(job: JobItem, holder: str, move: Move, cluster: str) -> AttemptFinish:
    """Say how a lost attempt ended. The time it held its place is paid for like any other; its CPU seconds are lost."""
    held_s = max(0.0, job.held_s - job.silent_s)
    return AttemptFinish(
        attempt=job.attempt,
        holder=holder,
        outcome=move.outcome,
        failure=f"{cluster}: {move.because}"[:4000],
        wall_s=held_s,
        cpu_s=0,
        gpu_s=held_s * job.spec.gpus,
    )


def _order(watched: Watched) -> Order:
    job = watched.job
    return Order(
        name=watched.order,
        key=job.key,
        asked=job.asked,
        attempt=job.attempt + 1,
        cpus=job.spec.cpus,
        gpus=job.spec.gpus,
        memory_bytes=job.spec.memory_bytes,
        limit_s=job.spec.timeout_s + STAGING_S,
        image=job.spec.image,
    )


class LocalCluster(Cluster):
    """Runs at most `slots` jobs at once on this machine, each command in a process of its own."""

    def __init__(self, client: Client, home: Path, slots: int | None = None, name: str = "local") -> None:
        back_end = LocalBackEnd(client, home, slots, self.wake)
        super().__init__(client, name, back_end, back_end.slots)
