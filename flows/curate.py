"""The flow `curate`. Makes a dataset version of it."""

from typing import Any

from prefect import flow

from flows.wrapping import run_in_prefect


@flow(name="curate", persist_result=False)
async def curate(
    run_id: str, attempt: int, params: dict[str, Any], server: str, traceparent: str = ""
) -> dict[str, Any]:
    """Makes a dataset version of it.

    `run_id` is a run of the control plane, which says with what; `attempt` is its fencing token and
    `traceparent` the trace that asked for it.
    """
    return await run_in_prefect("curate", run_id, attempt, params, server, traceparent)
