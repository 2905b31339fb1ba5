"""The flow `promote`. Plans the rollout of what passed."""

from typing import Any

from prefect import flow

from flows.wrapping import run_in_prefect


@flow(name="promote", persist_result=False)
async def promote(
    run_id: str, attempt: int, params: dict[str, Any], server: str, traceparent: str = ""
) -> dict[str, Any]:
    """Plans the rollout of what passed.

    `run_id` is a run of the control plane, which says with what; `attempt` is its fencing token and
    `traceparent` the trace that asked for it.
    """
    return await run_in_prefect("promote", run_id, attempt, params, server, traceparent)
