"""The warehouse workload at reduced sizes, as a workload of a user's own: a folder with a workload.yaml."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from control_plane.cli.stack import Stack
from control_plane.cli.workloads import add_workload
from flows.runners.session import RunSession, open_run
from flows.runners.workload import find_workload
from tests.bench.stage import client_of

PRETRAINING = {"teacher_missions": 40, "rounds": 1, "round_missions": 30, "epochs": [6, 8]}


def small_workload(folder: Path, suites: Mapping[str, Any], gate_first: list[dict[str, Any]]) -> str:
    """Write it and return what to call it: real code, real commands, less training and other suites."""
    spec = yaml.safe_load((find_workload("warehouse_amr").folder / "workload.yaml").read_text())
    spec["suites"] = dict(suites)
    spec["gate"]["first"] = gate_first
    spec["recipes"]["standard"]["pretrain"] = PRETRAINING
    folder.mkdir()
    (folder / "workload.yaml").write_text(yaml.safe_dump(spec))
    return str(folder)


@contextmanager
def session_of(stack: Stack, workload: str) -> Iterator[RunSession]:
    """Give what the flow's stages work with, as an attempt of a run would have it."""
    add_workload(client_of(stack), workload)
    os.environ |= stack.flow_environment()
    with open_run("bench", 1, {"workload": workload, "seed": 1}, stack.url) as run:
        yield run
