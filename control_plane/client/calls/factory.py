"""Clusters, jobs and the ledger."""

from typing import Any

from control_plane.client.ask import Ask, Call, Pages, Walk, get, post, put, segment
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


class FactoryCalls:
    @Call
    def put_cluster(self, name: str, body: ClusterPut) -> Ask[ClusterItem]:
        """Tell of a cluster, or of its new price and power."""
        return put(ClusterItem, f"/clusters/{segment(name)}", body)

    @Call
    def list_clusters(self) -> Ask[list[ClusterItem]]:
        """List clusters with their prices and power."""
        return get(list[ClusterItem], "/clusters")

    @Call
    def cluster_meters(self, name: str, hours: float = 1.0) -> Ask[ClusterMeters]:
        """Say what a cluster's exporters measured in the last hours."""
        return get(ClusterMeters, f"/clusters/{segment(name)}/meters", hours=hours)

    @Call
    def job_meters(self, key: str) -> Ask[JobMeters]:
        """Say what the GPUs of a job's attempts were measured to take."""
        return get(JobMeters, f"/jobs/{segment(key)}/meters")

    @Call
    def submit_job(self, body: JobCreate) -> Ask[JobItem]:
        """Ask for a job; a job of that key is returned as it stands."""
        return post(JobItem, "/jobs", body)

    @Call
    def get_job(self, key: str) -> Ask[JobItem]:
        """Return one job."""
        return get(JobItem, f"/jobs/{segment(key)}")

    @Walk
    def list_jobs(self, /, **query: Any) -> Pages[JobItem]:
        """Walk jobs, newest first; `run_id=`, `state=`."""
        return Pages(JobItem, "/jobs", query)

    @Call
    def explain_job(self, key: str) -> Ask[JobExplanation]:
        """Say why a job runs where it runs, and how it stands."""
        return get(JobExplanation, f"/jobs/{segment(key)}/explanation")

    @Call
    def cancel_job(self, key: str, reason: str) -> Ask[JobItem]:
        """Wish a job away; it ends within seconds, and is not tried again."""
        return post(JobItem, f"/jobs/{segment(key)}/cancel", JobCancel(reason=reason))

    @Call
    def start_attempt(self, key: str, body: AttemptCreate) -> Ask[JobItem]:
        """Take a job to run it, under a lease."""
        return post(JobItem, f"/jobs/{segment(key)}/attempts", body)

    @Call
    def renew_attempt(self, key: str, body: AttemptRenew) -> Ask[JobItem]:
        """Hold on to a job, and say how far it is."""
        return post(JobItem, f"/jobs/{segment(key)}/renew", body)

    @Call
    def finish_attempt(self, key: str, body: AttemptFinish) -> Ask[JobItem]:
        """Say how a job ended."""
        return post(JobItem, f"/jobs/{segment(key)}/finish", body)

    @Call
    def ledger(self, by: str = "kind", run_id: str | None = None) -> Ask[Ledger]:
        """Add up cost and energy of jobs by kind, run, cluster or subject."""
        return get(Ledger, "/ledger", by=by, run_id=run_id)
