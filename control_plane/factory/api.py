"""Clusters, jobs and the ledger."""

from typing import Annotated

from fastapi import Query

from control_plane.factory import service
from control_plane.factory.domain import JobState
from control_plane.factory.schemas import (
    AttemptCreate,
    AttemptFinish,
    AttemptRenew,
    ClusterItem,
    ClusterMeters,
    ClusterPut,
    JobCancel,
    JobCreate,
    JobExplanation,
    JobItem,
    JobMeters,
    Ledger,
)
from control_plane.kit.http import AdminCall, Cursor, Limit, PipelineCall, ViewerCall, WideCall, WorkerCall, router
from control_plane.kit.pages import Page

api = router("factory")
Hours = Annotated[float, Query(gt=0, le=24 * 31, description="how far back")]


@api.get("/clusters", name="list_clusters")
async def list_clusters(call: ViewerCall) -> list[ClusterItem]:
    """List the places that compute, with what their time costs."""
    return await service.list_clusters(call.session)


@api.put("/clusters/{name}", name="put_cluster")
async def put_cluster(name: str, body: ClusterPut, call: AdminCall) -> ClusterItem:
    """Add a cluster or change its price and power."""
    return await service.put_cluster(call.session, name, body)


@api.get("/clusters/{name}/meters", name="get_cluster_meters")
async def cluster_meters(name: str, call: WideCall, hours: Hours = 1.0) -> ClusterMeters:
    """Say what a cluster's exporters measured: tokens, joules, dollars, waits; altogether and by steps of time."""
    return await service.cluster_meters(call.session, name, hours)


@api.post("/jobs", status_code=201, name="submit_job")
async def submit_job(body: JobCreate, call: PipelineCall) -> JobItem:
    """Ask for a job; asked again with the same key it is the same job."""
    return await service.submit_job(call.session, body)


@api.get("/jobs", name="list_jobs")
async def list_jobs(
    call: WideCall,
    after: Cursor = None,
    limit: Limit = 50,
    run_id: str | None = None,
    state: JobState | None = None,
) -> Page[JobItem]:
    """List jobs, newest first."""
    return await service.list_jobs(call.session, run_id=run_id, state=state, after=after, limit=limit)


@api.get("/jobs/{key}", name="get_job")
async def get_job(key: str, call: ViewerCall) -> JobItem:
    """Return one job."""
    return await service.get_job(call.session, key)


@api.get("/jobs/{key}/meters", name="get_job_meters")
async def job_meters(key: str, call: WideCall) -> JobMeters:
    """Say what the GPUs of a job's attempts were measured to take, or why that is not known."""
    return await service.job_meters(call.session, key)


@api.get("/jobs/{key}/explanation", name="explain_job")
async def explain_job(key: str, call: ViewerCall) -> JobExplanation:
    """Say why a job runs where it runs, and how it stands."""
    return service.explain(await service.get_job(call.session, key))


@api.post("/jobs/{key}/cancel", name="cancel_job")
async def cancel_job(key: str, body: JobCancel, call: WorkerCall) -> JobItem:
    """Wish a job away: it ends within seconds where it runs, and is not tried again."""
    return await service.cancel_job(call.session, call.principal.name, key, body.reason)


@api.post("/jobs/{key}/attempts", status_code=201, name="start_job_attempt")
async def start_attempt(key: str, body: AttemptCreate, call: PipelineCall) -> JobItem:
    """Take the job's lease, if nobody holds it."""
    return await service.start_attempt(call.session, key, body)


@api.post("/jobs/{key}/renew", name="renew_job_attempt")
async def renew_attempt(key: str, body: AttemptRenew, call: PipelineCall) -> JobItem:
    """Keep the lease and report progress."""
    return await service.renew_attempt(call.session, key, body)


@api.post("/jobs/{key}/finish", name="finish_job_attempt")
async def finish_attempt(key: str, body: AttemptFinish, call: PipelineCall) -> JobItem:
    """Close the attempt; outputs are checked against the object store."""
    return await service.finish_attempt(call.session, call.context.objects, key, body)


@api.get("/ledger", name="get_ledger")
async def ledger(call: WideCall, by: service.By = "kind", run_id: str | None = None) -> Ledger:
    """Add up cost and energy of jobs by kind, run, cluster or subject."""
    return await service.ledger(call.session, by, run_id)
