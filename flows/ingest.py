"""The flow `ingest`. Lists what the field recorded."""

from typing import Any

from prefect import flow

from flows.wrapping import run_in_prefect


@flow(name="ingest", persist_result=False)
async def ingest(
    run_id: str, attempt: int, params: dict[str, Any], server: str, traceparent: str = ""
) -> dict[str, Any]:
    """Lists what the field recorded.

    `run_id` is a run of the control plane, which says with what; `attempt` is its fencing token and
    `traceparent` the trace that asked for it.
    """
    return await run_in_prefect("ingest", run_id, attempt, params, server, traceparent)
