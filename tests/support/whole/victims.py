"""Kills every process of the whole layout once, one at a time, and sees each come back before the next."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import psutil

from tests.support.whole.stack import OURS, Whole

BACK_S = 120.0
PAUSE_S = 2.0
PROGRAMS = (
    *OURS, "nginx", "prefect", "runner", "postgres", "radosgw", "ceph-osd", "ceph-mon", "slurmctld", "munged", "n1",
    "n2", "agents", "field",
)  # fmt: skip
PARTS = {
    "nginx's worker": ("nginx", "nginx: worker"),
    "Ray's GCS": ("ray-head", "gcs_server"),
    "Ray's dashboard": ("ray-head", "dashboard.py"),
    "a raylet": ("ray-node-1", "raylet/raylet"),
    "a database session": ("postgres", "postgres: fleetloop fleetloop"),
}
"""Processes that a program starts: the program's name, and a word of the command."""
JOBS = {
    "a training on Slurm": "flows.workloads.warehouse_amr.train",
    "a simulation on Ray": "flows.workloads.warehouse_amr.simulate",
    "a flow": "prefect.engine",
}
"""Processes that are there for a while, by a word of their command; they are done again, not started again."""


@dataclass(frozen=True, slots=True)
class Kill:
    """`back_s` is how long it took until everything was whole again; None if it never was."""

    name: str
    step: str
    back_s: float | None


@dataclass
class Killer:
    """Goes on until every one was killed once, or `stop` is set. `step` says where the loop is."""

    whole: Whole
    step: Callable[[], str]
    kills: list[Kill] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.left = [*PROGRAMS, *PARTS, *JOBS]
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self.stop.set()
        if self._thread.is_alive():
            self._thread.join(BACK_S + 10)

    def _run(self) -> None:
        while self.left and not self.stop.is_set():
            name = self._next()
            pid = self._find(name)
            if pid is not None and self.whole_again():
                self.left.remove(name)
                self._kill(name, pid)
            self.stop.wait(PAUSE_S)

    def _next(self) -> str:
        """Return a job if one runs that was not killed yet, else what is next in line."""
        running = (name for name in self.left if name in JOBS and self._find(name) is not None)
        return next(running, self.left[0])

    def _find(self, name: str) -> int | None:
        if name in JOBS:
            return next(found(psutil.process_iter(), JOBS[name]), None)
        program, word = PARTS.get(name, (name, ""))
        pid = self.whole.supervisor.pid(program) if self.whole.supervisor.knows(program) else None
        if pid is None or not word:
            return pid
        return next(found(_below(pid), word), None)

    def _kill(self, name: str, pid: int) -> None:
        begun = time.monotonic()
        step = self.step()
        os.kill(pid, signal.SIGKILL)
        while not self._is_back(name, pid):
            if time.monotonic() - begun > BACK_S:
                self.kills.append(Kill(name, step, None))
                return
            time.sleep(0.2)
        self.kills.append(Kill(name, step, round(time.monotonic() - begun, 1)))

    def _is_back(self, name: str, pid: int) -> bool:
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            return False
        return (name in JOBS or name == "a database session" or self._find(name) is not None) and self.whole_again()

    def whole_again(self) -> bool:
        """Say whether every program runs, says that it is ready, and the clusters have all their nodes."""
        supervisor = self.whole.supervisor
        if any(supervisor.pid(name) is None for name in PROGRAMS if supervisor.knows(name)):
            return False
        ports = self.whole.metrics_ports.values()
        return all(_ready(f"http://127.0.0.1:{port}/readyz") for port in ports) and self.whole.clusters.whole()


def found(processes: Iterator[psutil.Process], word: str) -> Iterator[int]:
    """Give the processes that have a word in their command, without those that keep them on a leash."""
    for process in processes:
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if word in line and "leash.py" not in line and "flows.runners.wrapper" not in line:
            yield process.pid


def _below(pid: int) -> Iterator[psutil.Process]:
    try:
        yield from psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return


def _ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
