"""The flow `retrain`. Trains a version on a dataset, or a first one."""

from typing import Any

from prefect import flow

from flows.wrapping import run_in_prefect


@flow(name="retrain", persist_result=False)
async def retrain(
    run_id: str, attempt: int, params: dict[str, Any], server: str, traceparent: str = ""
) -> dict[str, Any]:
    """Trains a version on a dataset, or a first one.

    `run_id` is a run of the control plane, which says with what; `attempt` is its fencing token and
    `traceparent` the trace that asked for it.
    """
    return await run_in_prefect("retrain", run_id, attempt, params, server, traceparent)
