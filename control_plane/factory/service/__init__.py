"""Clusters, jobs and the ledger: what others may ask of them."""

from control_plane.factory.service.clusters import list_clusters, put_cluster
from control_plane.factory.service.explain import explain
from control_plane.factory.service.jobs import (
    cancel_job,
    cancel_jobs,
    finish_attempt,
    get_job,
    list_jobs,
    renew_attempt,
    start_attempt,
    submit_job,
)
from control_plane.factory.service.ledger import By, costs, ledger, readers, spent
from control_plane.factory.service.meters import (
    claim,
    cluster_meters,
    heard,
    job_meters,
    measures,
    settle_uses,
    tidy,
)

__all__ = [
    "By",
    "cancel_job",
    "cancel_jobs",
    "claim",
    "cluster_meters",
    "costs",
    "explain",
    "finish_attempt",
    "get_job",
    "heard",
    "job_meters",
    "ledger",
    "list_clusters",
    "list_jobs",
    "measures",
    "put_cluster",
    "readers",
    "renew_attempt",
    "settle_uses",
    "spent",
    "start_attempt",
    "submit_job",
    "tidy",
]
