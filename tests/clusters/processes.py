"""Daemons of clusters under test: started together, ended together, their children with them."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

Daemon = subprocess.Popen[bytes]
Start = Callable[[str, list[str], Mapping[str, str]], Daemon | None]
"""Starts a daemon: name, command, environment. Without an answer somebody else keeps it running."""


@contextmanager
def daemon(command: list[str], log: Path, env: Mapping[str, str] | None = None) -> Iterator[Daemon]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env)
    try:
        yield process
    finally:
        kill_tree(process.pid)
        process.wait(10)


def starting(running: ExitStack, folder: Path) -> Start:
    """Return what starts daemons that end with `running`; what they say goes to FOLDER/NAME.out."""

    def start(name: str, command: list[str], env: Mapping[str, str]) -> Daemon:
        return running.enter_context(daemon(command, folder / f"{name}.out", env))

    return start


def kill_tree(pid: int) -> None:
    """Kill a process and all below it, as a machine does that loses power."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(family, 10)


def until(true: Callable[[], bool], limit_s: float, what: str) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if true():
            return
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {limit_s:g} s")
