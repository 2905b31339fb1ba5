"""The flow `gate`. Asks the gate."""

from typing import Any

from prefect import flow

from flows.wrapping import run_in_prefect


@flow(name="gate", persist_result=False)
async def gate(run_id: str, attempt: int, params: dict[str, Any], server: str, traceparent: str = "") -> dict[str, Any]:
    """Asks the gate.

    `run_id` is a run of the control plane, which says with what; `attempt` is its fencing token and
    `traceparent` the trace that asked for it.
    """
    return await run_in_prefect("gate", run_id, attempt, params, server, traceparent)
