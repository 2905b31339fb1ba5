"""Rows: models, versions and releases (`catalog`), the TUF repository (`repository`)."""

from control_plane.registry.store.catalog import (
    contents,
    find_artifact,
    find_model,
    find_release,
    find_version,
    highest_counter,
    later_releases,
    list_models,
    list_releases,
    list_versions,
    lock_model,
    next_counter,
    next_version,
    put_artifacts,
    put_model,
)

__all__ = [
    "contents",
    "find_artifact",
    "find_model",
    "find_release",
    "find_version",
    "highest_counter",
    "later_releases",
    "list_models",
    "list_releases",
    "list_versions",
    "lock_model",
    "next_counter",
    "next_version",
    "put_artifacts",
    "put_model",
]
