"""One attempt of one run: the client, the workload, the cluster, a heartbeat, and steps that are reported."""

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agents.protocol.v1 import digest_of
from control_plane.client import Client, ClientError
from control_plane.factory.domain import Policy
from control_plane.factory.schemas import FileRef, JobCreate, JobItem, JobSpec, PlaceAsk
from control_plane.kit import tracing
from control_plane.pipelines.schemas import StepPut
from flows.runners.back_ends.configured import Clusters, open_clusters
from flows.runners.workload import Command, Workload, find_workload

HEARTBEAT_S = 2.0
Answer = TypeVar("Answer")


class RunLostError(RuntimeError):
    """Another attempt holds this run now, or it was cancelled: stop without a trace."""


@dataclass
class RunSession:
    """What every step of a run works with. `compute_s` adds up seconds of jobs that this step waited for."""

    client: Client
    workload: Workload
    clusters: Clusters
    run_id: str
    attempt: int
    params: Mapping[str, Any]
    lost: threading.Event = field(default_factory=threading.Event)
    compute_s: float = 0.0
    traceparent: str | None = None

    def step(self, name: str, work: Callable[[], Answer]) -> Answer:
        """Do one step and report when it began, how it ended, and how much of its time was compute."""
        with tracing.span(f"step {name}", parent=self.traceparent):  # steps may run in threads of their own
            return self._step(name, work)

    def _step(self, name: str, work: Callable[[], Answer]) -> Answer:
        if self.lost.is_set():
            raise RunLostError(f"run {self.run_id} is another attempt's")
        self._report(name, StepPut(attempt=self.attempt, state="running"))
        begun, self.compute_s = time.monotonic(), 0.0
        try:
            answer = work()
        except RunLostError:
            raise
        except Exception as error:
            self._report(
                name,
                StepPut(
                    attempt=self.attempt,
                    state="failed",
                    seconds=time.monotonic() - begun,
                    compute_s=self.compute_s,
                    note=str(error)[:1000],
                ),
            )
            raise
        self._report(
            name,
            StepPut(attempt=self.attempt, state="done", seconds=time.monotonic() - begun, compute_s=self.compute_s),
        )
        return answer

    def _report(self, name: str, body: StepPut) -> None:
        try:
            self.client.put_step(self.run_id, name, body)
        except ClientError as error:
            if error.code in ("attempt_lost", "run_over"):
                raise RunLostError(str(error)) from error
            raise

    def submit(
        self, kind: str, command: Command, params: Mapping[str, Any], inputs: Mapping[str, FileRef], subject: str = ""
    ) -> JobItem:
        """Ask for a job; its key is the hash of all that changes its outputs."""
        body = {
            "kind": kind,
            "command": command.run,
            "params": params,
            "code": self.workload.code_sha256,
            "inputs": {path: ref.sha256 for path, ref in sorted(inputs.items())},
        }
        key = f"{kind}-{digest_of(body)[:40]}"
        spec = _spec(command, params, inputs)
        place = self._place()
        job = JobCreate(key=key, kind=kind, place=place, run_id=self.run_id, subject=subject, spec=spec)
        return self.client.submit_job(job)

    def _place(self) -> PlaceAsk:
        """Ask for the best of the clusters this runner reaches; `policy` and `deadline_s` may come with the run."""
        policy = Policy(str(self.params.get("policy", self.clusters.policy)))
        deadline_s = self.params.get("deadline_s")
        return PlaceAsk(among=self.clusters.names, policy=policy, deadline_s=float(deadline_s) if deadline_s else None)

    def run_jobs(self, jobs: list[JobItem]) -> Iterator[JobItem]:
        """Run jobs, each on its cluster, and give them back as listed."""
        futures = [self.clusters.submit(job) for job in jobs]
        for future in futures:
            begun = time.monotonic()
            job = future.result()
            self.compute_s += time.monotonic() - begun
            if self.lost.is_set():
                raise RunLostError(f"run {self.run_id} is another attempt's")
            yield job

    def run_job(
        self, kind: str, command: Command, params: Mapping[str, Any], inputs: Mapping[str, FileRef], subject: str = ""
    ) -> JobItem:
        return next(self.run_jobs([self.submit(kind, command, params, inputs, subject)]))


def _spec(command: Command, params: Mapping[str, Any], inputs: Mapping[str, FileRef]) -> JobSpec:
    return JobSpec(
        command=command.run,
        params=dict(params),
        inputs=dict(inputs),
        timeout_s=command.timeout_s,
        cpus=command.cpus,
        gpus=command.gpus,
        memory_bytes=math.ceil(command.memory_gib * (1 << 30)),
    )


def home() -> Path:
    return Path(os.environ.get("FLEETLOOP_HOME", ".fleetloop"))


@contextmanager
def open_run(run_id: str, attempt: int, params: Mapping[str, Any], server: str) -> Iterator[RunSession]:
    """Open a run with the token in FLEETLOOP_TOKEN and keep its heartbeat going."""
    client = Client(server, os.environ["FLEETLOOP_TOKEN"])
    clusters = open_clusters(client, home(), os.environ.get("FLEETLOOP_CLUSTERS"))
    session = RunSession(client, find_workload(str(params["workload"])), clusters, run_id, attempt, params)
    session.traceparent = tracing.header()
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(session, stop), daemon=True)
    heart.start()
    try:
        yield session
    finally:
        stop.set()
        heart.join()
        session.clusters.close()
        client.close()


def _beat(session: RunSession, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            session.client.heartbeat_run(session.run_id, session.attempt)
        except ClientError as error:
            if error.code in ("attempt_lost", "run_over"):
                session.lost.set()
                return
        stop.wait(HEARTBEAT_S)
