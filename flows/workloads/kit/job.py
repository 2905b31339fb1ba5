"""Owns the job folder of the workload contract: params.json, inputs/, outputs/, progress lines, exit status."""

import errno
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from flows.workloads.kit.types import Json, WorkloadError

TRY_ELSEWHERE = 75

Plan = TypeVar("Plan")
_INFRASTRUCTURE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM}


@dataclass(frozen=True)
class Job:
    folder: Path
    params: Json

    @classmethod
    def at(cls, folder: Path) -> "Job":
        return cls(folder, read_object(folder / "params.json"))

    @property
    def seed(self) -> int:
        return int(self.params["seed"])

    def plan(self, kind: type[Plan], part: str) -> Plan:
        """The recipe's parameters for one part (`pretrain`, `train`, `relabel`) over that plan's defaults."""
        values = (self.params.get("recipe") or {}).get(part) or {}
        try:
            return kind(**values)
        except TypeError as error:
            raise WorkloadError(f"params.json: recipe: {error}") from error

    def input(self, *path: str) -> Path:
        return self.folder.joinpath("inputs", *path)

    def output(self, *path: str) -> Path:
        target = self.folder.joinpath("outputs", *path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def recordings(self) -> list[Path]:
        """The recordings in an order that does not depend on the file system."""
        return sorted(self.input("recordings").rglob("*.mcap"), key=lambda path: path.name)

    def write(self, value: Json, *path: str) -> None:
        self.output(*path).write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def progress(fraction: float, note: str) -> None:
    """Move the progress bar of this job."""
    sys.stdout.write(json.dumps({"progress": round(fraction, 3), "note": note}) + "\n")
    sys.stdout.flush()


def read_object(path: Path) -> Json:
    """Read a JSON file that must hold an object."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WorkloadError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise WorkloadError(f"{path}: must hold a JSON object")
    return cast("Json", value)


def run(command: Callable[[Job], None]) -> None:
    """Run one command in the current folder and turn what went wrong into the contract's exit status."""
    try:
        command(Job.at(Path.cwd()))
    except WorkloadError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    except MemoryError:
        sys.stderr.write("out of memory\n")
        sys.exit(TRY_ELSEWHERE)
    except OSError as error:
        if error.errno not in _INFRASTRUCTURE:
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(TRY_ELSEWHERE)
