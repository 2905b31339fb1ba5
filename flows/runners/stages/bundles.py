"""Which files a job reads: of bundles, checkpoints and recordings, under the paths a workload finds them at."""

from collections.abc import Mapping
from typing import Any

from control_plane.factory.schemas import FileRef
from control_plane.registry.schemas import FileRef as RegistryFile
from control_plane.registry.schemas import VersionItem
from flows.runners.session import RunSession


def recordings(run: RunSession, digest: str, split: str, *, events_only: bool = False) -> dict[str, FileRef]:
    manifest = run.client.get_dataset(digest).manifest
    return {
        f"recordings/{clip['recording']}.mcap": FileRef(sha256=clip["recording"], size_bytes=clip["size_bytes"])
        for clip in manifest["clips"]
        if clip["split"] == split and (clip["event_id"] is not None or not events_only)
    }


def prefixed(prefix: str, refs: Mapping[str, Any]) -> dict[str, FileRef]:
    return {f"{prefix}/{path}": FileRef(sha256=ref.sha256, size_bytes=ref.size_bytes) for path, ref in refs.items()}


def bundle_of(version: VersionItem) -> dict[str, RegistryFile]:
    return {f["path"]: RegistryFile(sha256=f["sha256"], size_bytes=f["size_bytes"]) for f in version.content["files"]}


def parent_inputs(version: VersionItem) -> dict[str, FileRef]:
    weights = {path: ref for path, ref in version.checkpoint.items() if path.startswith("checkpoint/")}
    return prefixed("parent", bundle_of(version)) | prefixed("parent", weights)
