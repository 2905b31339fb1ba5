"""Slurm: an order is a batch job of its name. Needs sbatch, squeue, scancel on the path, and a folder all nodes share.

- Slurm has no idempotent submission. So the queue is asked first, the job is a `singleton` (two of a name never run at
  once), and the wrapper's turn in the ledger lets only one of them do anything.
- Slurm never runs a job again by itself (`--no-requeue`): the ledger counts attempts, and each is an order of its own.
- Ended jobs are seen in the controller's memory for MinJobAge (300 s by default), after that in the accounting, where
  there is one (`accounting`).
"""

import getpass
import math
import os
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.runners.back_ends.interface import LOG_BYTES, BackEndError, Order
from flows.runners.back_ends.launch import Launch
from flows.steps.orders import Phase, Seen

TIMEOUT_S = 60.0
AT_ONCE = 200
MIB = 1 << 20
WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
STOPPED = {"TIMEOUT", "DEADLINE", "OUT_OF_MEMORY"}


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """`arguments` are given to sbatch as they are; `conf` names a slurm.conf other than the machine's."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    arguments: tuple[str, ...] = ()
    accounting: bool = False
    conf: str | None = None


class SlurmBackEnd:
    runs_images = False

    def __init__(self, launch: Launch, settings: SlurmSettings) -> None:
        self._launch, self._settings = launch, settings
        self._logs = Path(launch.home) / "logs"
        self._user = getpass.getuser()

    def submit(self, order: Order) -> None:
        if order.name not in self.see([order.name]):
            self._make_logs()
            self._call(sbatch_arguments(order, self._settings, self._logs), self._launch.script(order))

    def _make_logs(self) -> None:
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackEndError(f"no folder for logs: {error}") from error

    def see(self, names: Collection[str]) -> Mapping[str, Seen]:
        found = self._told(["squeue", "--noheader", "--states=all", "--format=%j|%i|%T|%r"], list(names))
        missing = [name for name in names if name not in found]
        if missing and self._settings.accounting:
            columns = "--format=JobName%250,JobIDRaw,State,Reason"
            found |= self._told(["sacct", "-X", "-n", "-P", "--starttime=now-30days", columns], missing)
        return found

    def _told(self, command: list[str], names: Sequence[str]) -> dict[str, Seen]:
        lines = [
            line
            for first in range(0, len(names), AT_ONCE)
            for line in self._call(command + self._whose(names[first : first + AT_ONCE])).splitlines()
        ]
        return seen_of(lines)

    def _whose(self, names: Iterable[str]) -> list[str]:
        return [f"--user={self._user}", f"--name={','.join(names)}"]

    def cancel(self, name: str) -> None:
        self._call(["scancel", f"--user={self._user}", f"--name={name}"])

    def logs(self, name: str) -> str:
        try:
            with (self._logs / f"{name}.log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise BackEndError(f"the log of {name}: {error}") from error

    def close(self) -> None:
        """Nothing is held here: jobs of Slurm go on."""

    def _call(self, command: list[str], stdin: str = "") -> str:
        environment = os.environ | ({"SLURM_CONF": self._settings.conf} if self._settings.conf else {})
        try:
            done = subprocess.run(
                command, input=stdin.encode(), capture_output=True, timeout=TIMEOUT_S, check=False, env=environment
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BackEndError(f"{command[0]}: {error}") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            raise BackEndError(f"{command[0]} exited {done.returncode}: {said}")
        return done.stdout.decode(errors="replace")


def sbatch_arguments(order: Order, settings: SlurmSettings, logs: Path) -> list[str]:
    """Return the submission of an order; its script comes by standard input, so it lies in no file."""
    asked = {
        "job-name": order.name,
        "comment": order.key,
        "dependency": "singleton",
        "cpus-per-task": math.ceil(order.cpus),
        "mem": f"{math.ceil(order.memory_bytes / MIB)}M" if order.memory_bytes else None,
        "gres": f"gpu:{math.ceil(order.gpus)}" if order.gpus else None,
        "time": math.ceil(order.limit_s / 60),
        "output": str(logs / f"{order.name}.log").replace("%", "%%"),
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "export": "NIL",
        "chdir": "/",
    }
    given = [f"--{name}={value}" for name, value in asked.items() if value is not None]
    return ["sbatch", "--parsable", "--no-requeue", "--ntasks=1", "--open-mode=append", *given, *settings.arguments]


def seen_of(lines: Iterable[str]) -> dict[str, Seen]:
    """Read lines of NAME|ID|STATE|REASON; of several jobs of a name one that lives counts, else the last one."""
    found: dict[str, tuple[bool, int, Seen]] = {}
    for line in lines:
        name, number, state, reason = (line.split("|") + [""] * 4)[:4]
        if number.isdigit() and state.strip():
            seen = _seen(state.split()[0], reason)
            found[name] = max(found.get(name, (False, -1, seen)), (seen.alive, int(number), seen), key=lambda t: t[:2])
    return {name: seen for name, (_, _, seen) in found.items()}


def _seen(state: str, reason: str) -> Seen:
    because = f"Slurm says {state}" + (f" ({reason})" if reason not in ("", "None") else "")
    if state in WAITING:
        return Seen(Phase.WAITING, because)
    if state in RUNNING:
        return Seen(Phase.RUNNING, because)
    return Seen(Phase.STOPPED if state in STOPPED else Phase.GONE, because)
