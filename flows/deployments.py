"""Serves every flow as the deployment FLOW/fleetloop, and `ask`, which asks for runs on a schedule.

Run: `python -m flows.deployments` beside a Prefect server (PREFECT_API_URL). FLEETLOOP_SCHEDULE_S and
FLEETLOOP_SCHEDULE_PIPELINE give `ask` its interval and its pipeline; evidence triggers live in the control plane.
"""

import asyncio
import os
from datetime import timedelta
from typing import Any

from prefect import flow, serve

from control_plane.client import Client
from control_plane.kit import tracing
from control_plane.pipelines.schemas import RunCreate
from flows.curate import curate
from flows.evaluate import evaluate
from flows.gate import gate
from flows.ingest import ingest
from flows.loop import loop
from flows.promote import promote
from flows.retrain import retrain

NAME = "fleetloop"
FLOWS = (ingest, curate, retrain, evaluate, gate, promote, loop)


@flow(name="ask", persist_result=False)
async def ask(pipeline: str, server: str) -> str:
    """Ask the control plane for a run of a pipeline, because it is time."""
    client = Client(server, os.environ["FLEETLOOP_TOKEN"])
    run = await asyncio.to_thread(client.request_run, pipeline, RunCreate(because="scheduled"))
    return run.id


def main() -> None:
    tracing.start("fleetloop-flow")
    deployments: list[Any] = [item.to_deployment(name=NAME) for item in FLOWS]
    every_s, pipeline = os.environ.get("FLEETLOOP_SCHEDULE_S"), os.environ.get("FLEETLOOP_SCHEDULE_PIPELINE")
    if every_s and pipeline:
        parameters = {"pipeline": pipeline, "server": os.environ["FLEETLOOP_SERVER"]}
        deployments.append(
            ask.to_deployment(name=NAME, interval=timedelta(seconds=float(every_s)), parameters=parameters)
        )
    serve(*deployments, pause_on_shutdown=False, print_starting_message=False)


if __name__ == "__main__":
    main()
