"""For tests of one back end against its stand-in: orders that run a program of the test's own, and no control plane."""

from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from flows.runners.back_ends.interface import BackEnd, Order
from flows.runners.back_ends.launch import Launch
from flows.steps.orders import Phase, order_name
from tests.clusters.processes import until

BORN = datetime(2026, 11, 27, tzinfo=UTC)
TOKEN = "the-control-planes-secret"


def order_of(key: str = "sim:1", **values: Any) -> Order:
    given = {"cpus": 1, "gpus": 0, "memory_bytes": 0, "limit_s": 600} | values
    return Order(name=order_name(key, BORN, 1, 1), key=key, asked=1, attempt=1, **given)


def launch_of(folder: Path, script: str, **env: str) -> Launch:
    """Return a launch whose interpreter is a shell script, whatever it is told to run."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Launch("http://host", PurePosixPath(folder / "secret" / "token"), PurePosixPath(folder), str(program), env)


def phase_of(back_end: BackEnd, order: Order) -> Phase:
    seen = back_end.see([order.name]).get(order.name)
    return seen.phase if seen else Phase.UNKNOWN


def reaches(back_end: BackEnd, order: Order, phase: Phase) -> str:
    """Wait until an order is seen so; return why, in the back end's words."""
    until(lambda: phase_of(back_end, order) is phase, 30, f"{order.name} is {phase}")
    return back_end.see([order.name])[order.name].because if phase is not Phase.UNKNOWN else ""
