"""Clusters: places that run jobs. A back end only submits and waits; the ledger in the control plane is what counts."""

import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from control_plane.client import Client, ClientError
from control_plane.factory.domain import JobState
from control_plane.factory.schemas import JobItem
from flows.runners.wrapper import LEASE_S, run_job

POLL_S = 0.5


class JobFailedError(RuntimeError):
    """A job failed by its own fault, or too often by the cluster's."""

    def __init__(self, job: JobItem) -> None:
        super().__init__(f"job {job.key} ({job.kind}) failed: {job.failure}")
        self.job = job


class LocalCluster:
    """Runs at most `slots` jobs at once on this machine, each command in a process of its own."""

    name = "local"

    def __init__(self, client: Client, home: Path, slots: int | None = None) -> None:
        self._client = client
        self._home = home
        self._holder = f"local-{os.getpid()}-{uuid4().hex[:8]}"
        self.slots = slots or max(1, min(2, os.cpu_count() or 1))
        self._pool = ThreadPoolExecutor(self.slots, "job")
        self._futures: dict[str, Future[JobItem]] = {}
        self._lock = threading.Lock()

    def submit(self, job: JobItem) -> Future[JobItem]:
        """Start a job, or join the one of that key that runs here already."""
        with self._lock:
            future = self._futures.get(job.key)
            if future is None:
                future = self._pool.submit(self._see_through, job)
                self._futures[job.key] = future
        return future

    def _see_through(self, job: JobItem) -> JobItem:
        """Bring a job to its end: run it, run it again if it was lost, or wait for whoever else holds it."""
        while job.state not in (JobState.DONE, JobState.FAILED):
            try:
                job = run_job(self._client, job.key, self._home, f"{self._holder}-{job.attempt}")
            except ClientError as error:
                if error.code not in ("job_not_free", "attempt_lost"):
                    raise
                time.sleep(min(POLL_S, LEASE_S))
                job = self._client.get_job(job.key)
        if job.state == JobState.FAILED:
            raise JobFailedError(job)
        return job

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
