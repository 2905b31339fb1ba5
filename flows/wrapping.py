"""Prefect around the plain bodies: a run's steps become tasks, its retries and history Prefect's.

Prefect holds no truth. A flow run that dies is asked for again by the control plane and goes on from its finished jobs.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from prefect import task

from flows.runners.loop import Do, run_flow
from flows.runners.parts import BODIES
from flows.runners.session import RunSession


def steps_as_tasks(run: RunSession) -> Do:
    """Return a `do` that runs each step as a Prefect task, which is a durable mark in Prefect's history."""

    def do(name: str, work: Callable[[], Any]) -> Any:
        return task(name=name, persist_result=False, log_prints=False)(lambda: run.step(name, work))()

    return do


async def run_in_prefect(
    flow: str, run_id: str, attempt: int, params: Mapping[str, Any], server: str, traceparent: str = ""
) -> dict[str, Any]:
    """Run a body in a thread, so that the flow stays async (a sync one waits a second for Prefect's heartbeat)."""
    return await asyncio.to_thread(run_flow, BODIES[flow], run_id, attempt, params, server, steps_as_tasks, traceparent)
