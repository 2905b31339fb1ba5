"""Rounds of load against a port, each by a fresh client process, going on where the last one ended."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil


@dataclass
class Rounds:
    """One set of lanes; `run` returns what the client counted."""

    file: Path
    at: dict[int, int] = field(default_factory=dict)

    def run(self, port: int, seconds: float, *, wrap: bool = False) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.bench.load", str(port), str(self.file), str(seconds)]
        command += [str(self.at.get(port, 0)), *(["--wrap"] if wrap else [])]
        result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        if result["bad"]:
            raise RuntimeError(f"{result['bad']} requests were refused, the first with {result['first_bad']}")
        if not result["done"]:
            raise RuntimeError("no request was answered in time, or those signed ahead are used up")
        if not wrap:
            self.at[port] = result["reached"]
        return result

    def rate(self, port: int, seconds: float, *, wrap: bool = False) -> float:
        result = self.run(port, seconds, wrap=wrap)
        return float(result["done"] / result["seconds"])


@contextmanager
def rounds_of(lanes: list[list[bytes]]) -> Iterator[Rounds]:
    with tempfile.NamedTemporaryFile(prefix="fleetloop-lanes-") as file:
        file.write(msgspec.msgpack.encode(lanes))
        file.flush()
        yield Rounds(Path(file.name))


def cpu_s(pid: int) -> float:
    return float(sum(psutil.Process(pid).cpu_times()[:2]))
