"""Keeps programs running: starts them on a leash, restarts what dies, ends all of them in the end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import psutil

LEASH = str(files("control_plane") / "kit" / "leash.py")
RESTART_S = 0.5
GRACE_S = 8.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Program:
    """One program that should be running. `after` is waited for before each start."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    after: Callable[[], bool] | None = None
    process: "subprocess.Popen[bytes] | None" = None
    starts: int = 0
    wanted: threading.Event = field(default_factory=threading.Event)


class Supervisor:
    """Programs under one roof. When this process dies, however it dies, the leashes end them."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._programs: dict[str, Program] = {}
        self._threads: list[threading.Thread] = []
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, program: Program) -> None:
        program.wanted.set()
        self._programs[program.name] = program
        thread = threading.Thread(target=self._keep, args=(program,), name=f"keep-{program.name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _keep(self, program: Program) -> None:
        while program.wanted.is_set():
            if program.after is not None and not program.after():
                time.sleep(RESTART_S)
                continue
            self._run_once(program)
            time.sleep(RESTART_S)

    def _run_once(self, program: Program) -> None:
        usage = self._logs / f"{program.name}.usage.json"
        command = [sys.executable, "-S", "-E", LEASH, str(usage), *program.command]
        with (self._logs / f"{program.name}.log").open("ab") as log:
            program.process = subprocess.Popen(
                command,
                env=os.environ | dict(program.environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            program.starts += 1
            program.process.wait()

    def pid(self, name: str) -> int | None:
        """Return the pid of the program itself (not of its leash), or None while it is down."""
        process = self._programs[name].process
        if process is None or process.poll() is not None:
            return None
        return next(iter(_children(process.pid)), None)

    def knows(self, name: str) -> bool:
        return name in self._programs

    def starts(self, name: str) -> int:
        return self._programs[name].starts

    def again(self, name: str) -> None:
        """Start a program that was stopped as it was started before."""
        self.start(self._programs[name])

    def stop(self, name: str) -> None:
        program = self._programs[name]
        program.wanted.clear()
        process = program.process
        if process is None or process.poll() is not None:
            return
        for pid in _children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        if process.stdin is not None:
            process.stdin.close()  # whatever is left of the group goes with the leash
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)

    def stop_all(self) -> None:
        """End programs all at once, those started last told first."""
        stoppers = [threading.Thread(target=self.stop, args=(name,)) for name in reversed(list(self._programs))]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join()

    def tail(self, name: str, lines: int = 15) -> str:
        path = self._logs / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def _children(pid: int) -> list[int]:
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children()]
    return []
