"""The flow `evaluate`. Simulates a candidate and the champion."""

from typing import Any

from prefect import flow

from flows.wrapping import run_in_prefect


@flow(name="evaluate", persist_result=False)
async def evaluate(
    run_id: str, attempt: int, params: dict[str, Any], server: str, traceparent: str = ""
) -> dict[str, Any]:
    """Simulates a candidate and the champion.

    `run_id` is a run of the control plane, which says with what; `attempt` is its fencing token and
    `traceparent` the trace that asked for it.
    """
    return await run_in_prefect("evaluate", run_id, attempt, params, server, traceparent)
