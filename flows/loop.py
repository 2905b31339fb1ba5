"""The flow `loop`. Goes once round the loop."""

from typing import Any

from prefect import flow

from flows.wrapping import run_in_prefect


@flow(name="loop", persist_result=False)
async def loop(run_id: str, attempt: int, params: dict[str, Any], server: str, traceparent: str = "") -> dict[str, Any]:
    """Goes once round the loop.

    `run_id` is a run of the control plane, which says with what; `attempt` is its fencing token and
    `traceparent` the trace that asked for it.
    """
    return await run_in_prefect("loop", run_id, attempt, params, server, traceparent)
