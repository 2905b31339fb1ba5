"""Publish a dataset version once, with its lineage."""

from collections.abc import Collection
from typing import Any

from control_plane.audit import service as audit
from control_plane.datasets import store
from control_plane.datasets.domain import dataset_digest, why_leaks
from control_plane.datasets.models import DatasetVersion
from control_plane.datasets.schemas import Dataset, DatasetCreate, DatasetItem
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, NotFound
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node

MOST = 2**31


async def publish(session: Session, actor: str, body: DatasetCreate) -> DatasetItem:
    """Publish; the same manifest published again is the version that is there."""
    splits = {split: {c.group for c in body.clips if c.split == split} for split in ("train", "holdout")}
    leak = why_leaks(splits)
    if leak:
        raise Invalid(leak, code="split_leaks")
    manifest = _manifest(body)
    digest = dataset_digest(manifest)
    values = {"digest": digest, "name": body.name, "manifest": manifest, "card": body.card, "created_by": actor}
    if await store.insert_version(session, values):
        sources = [Node(Kind.RECORDING, clip.recording) for clip in body.clips]
        sources += [Node(Kind.DATASET, parent) for parent in body.parents]
        await lineage.link(session, Node(Kind.DATASET, digest), sources, "curated from")
        await audit.record(session, actor, "dataset.publish", digest, f"{len(body.clips)} clips", name=body.name)
    return _item(await _version(session, digest))


def _manifest(body: DatasetCreate) -> dict[str, Any]:
    """Return what the digest names; a clip without a fingerprint reads as it did before there were any."""
    manifest = body.model_dump(mode="json", exclude={"card"})
    for clip in manifest["clips"]:
        if not clip["fingerprint"]:
            del clip["fingerprint"]
    return manifest


async def get(session: Session, digest: str) -> Dataset:
    version = await _version(session, digest)
    return Dataset(**_item(version).model_dump(), manifest=version.manifest)


async def list_versions(session: Session, *, after: str | None = None, limit: int = 50) -> Page[DatasetItem]:
    cursor = decode_cursor(after, int)
    skip = cursor[0] if cursor else 0
    if not 0 <= skip < MOST:
        raise Invalid("this cursor was not made by this API")
    found = [_item(v) for v in await store.list_versions(session, skip=skip, limit=limit + 1)]
    return page_of(found, limit, lambda _: skip + limit)


async def names_of(session: Session, digests: Collection[str]) -> dict[str, str]:
    """Return names by digest, of those versions that are there; no manifest is read."""
    return await store.names_of(session, digests) if digests else {}


async def _version(session: Session, digest: str) -> DatasetVersion:
    found = await store.find(session, digest)
    if found is None:
        raise NotFound(f"there is no dataset {digest}")
    return found


def _item(version: DatasetVersion) -> DatasetItem:
    clips = version.manifest["clips"]
    return DatasetItem(
        digest=version.digest,
        name=version.name,
        clips=len(clips),
        holdout=sum(clip["split"] == "holdout" for clip in clips),
        card=version.card,
        created_by=version.created_by,
        created_at=version.created_at,
    )
