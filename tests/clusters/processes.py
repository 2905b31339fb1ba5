"""Daemons of clusters under test: started together, ended together, their children with them."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def daemon(command: list[str], log: Path, env: Mapping[str, str] | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env)
    try:
        yield process
    finally:
        kill_tree(process.pid)
        process.wait(10)


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
