"""Nodes of the stand-ins for clusters: what they run are real processes of this machine, one CPU's worth each."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.clusters.processes import kill_tree

PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass
class Placed:
    """A process on a node, and the part of its CPU that it holds."""

    node: str
    cpus: float
    process: "subprocess.Popen[bytes]"


@dataclass
class Nodes:
    """Two nodes of one CPU each; each may lose its power."""

    cpus: dict[str, float] = field(default_factory=lambda: {"n1": 1.0, "n2": 1.0})
    lost: set[str] = field(default_factory=set)
    placed: dict[str, Placed] = field(default_factory=dict)

    def free(self, cpus: float) -> str | None:
        """Return a node that has so many CPUs free."""
        for node, whole in self.cpus.items():
            held = sum(each.cpus for each in self.placed.values() if each.node == node and each.process.poll() is None)
            if node not in self.lost and whole - held >= cpus - 1e-9:
                return node
        return None

    def start(
        self, name: str, node: str, cpus: float, words: Sequence[str], env: Mapping[str, str], log: Path
    ) -> "subprocess.Popen[bytes]":
        with log.open("ab") as out:
            process = subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={"PATH": PATH, "STAND_IN_NODE": node} | dict(env),
                start_new_session=True,
            )
        self.placed[name] = Placed(node, cpus, process)
        return process

    def exit_code(self, name: str) -> int | None:
        """Return how a process ended, as a container's runtime says it; None while it runs."""
        code = self.placed[name].process.poll()
        return code if code is None or code >= 0 else 128 - code

    def tell_to_leave(self, name: str) -> None:
        process = self.placed[name].process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)

    def kill(self, name: str) -> None:
        kill_tree(self.placed[name].process.pid)

    def forget(self, name: str) -> None:
        self.placed.pop(name, None)

    def name_of(self, pid: int) -> str:
        """Return what the process was started as that a process belongs to."""
        above = {pid, *(each.pid for each in psutil.Process(pid).parents())}
        [found] = [name for name, each in self.placed.items() if each.process.pid in above]
        return found

    def lose(self, pid: int) -> str:
        """Take the power from the node on which a process runs; nobody there says another word."""
        node = self.placed[self.name_of(pid)].node
        self.lost.add(node)
        for name in [name for name, each in self.placed.items() if each.node == node]:
            self.kill(name)
        return node

    def close(self) -> None:
        for name in list(self.placed):
            self.kill(name)
            self.placed[name].process.wait(10)
