"""Register models and versions, cut releases, hand out artifacts."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.protocol.v1 import ContentManifest
from agents.protocol.v1.statement import APPROVAL
from control_plane.audit import service as audit
from control_plane.kit import outbox
from control_plane.kit.db import Session
from control_plane.kit.errors import Conflict, Invalid, NotFound
from control_plane.kit.ids import new_id
from control_plane.kit.objects import ObjectStore
from control_plane.kit.uploads import settle
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.registry import store
from control_plane.registry.domain import (
    MEDIA_TYPES,
    BundleError,
    check_bundle,
    content_manifest,
    release_manifest,
)
from control_plane.registry.models import Model, ModelVersion, Release
from control_plane.registry.schemas import (
    ModelItem,
    ModelPut,
    ReleaseCreate,
    ReleaseItem,
    VersionCreate,
    VersionItem,
)
from control_plane.registry.store import attestations
from control_plane.review import service as review
from control_plane.telemetry import service as telemetry
from control_plane.telemetry.schemas import Rate

APPROVE = "approve_release"
VOUCHED = "release.vouched"
"""Outbox topic: there is something new about the content or release with this digest."""
MAX_BUNDLE_FILE_BYTES = 4 << 30
RELEASE_MEDIA_TYPE = "application/vnd.fleetloop.release.v1+json"


async def put_model(session: Session, actor: str, name: str, body: ModelPut) -> ModelItem:
    """Add a model or change its words; a contract that versions were made for stays."""
    held = await store.find_model(session, name)
    values = body.model_dump(mode="json")
    if held is not None and held.contract != values["contract"] and await store.list_versions(session, name):
        raise Conflict(f"model {name} has versions; another contract is another model", code="contract_fixed")
    if held is None or any(getattr(held, field) != value for field, value in values.items()):
        await store.put_model(session, name, values)
        await audit.record(session, actor, "model.put", name, body.title)
    return await get_model(session, name)


async def get_model(session: Session, name: str) -> ModelItem:
    return ModelItem.model_validate(await _model(session, name), from_attributes=True)


async def list_models(session: Session) -> list[ModelItem]:
    return [ModelItem.model_validate(m, from_attributes=True) for m in await store.list_models(session)]


async def field_rate(session: Session, name: str, content: str) -> Rate:
    model = await get_model(session, name)
    kinds = [kind for kind, rule in model.events.items() if rule.incident]
    return await telemetry.rate(session, content, kinds, model.exposure)


async def register_version(
    session: Session, objects: ObjectStore, actor: str, model_name: str, body: VersionCreate
) -> VersionItem:
    """Check a bundle and make a version of it; the same bundle again is the version that is there."""
    model = await _model(session, model_name)
    card = await _check(objects, model, body)
    manifest, digest = content_manifest(model_name, {p: (f.sha256, f.size_bytes) for p, f in body.files.items()})
    await store.lock_model(session, model_name)
    found = await store.find_version(session, digest)
    if found is not None:
        return _version(found)
    version = await _insert_version(session, actor, model_name, manifest, digest, body, card)
    await _link_version(session, digest, body)
    await audit.record(
        session, actor, "version.register", digest, body.label, model=model_name, version=version.version
    )
    return _version(version)


async def _check(objects: ObjectStore, model: Model, body: VersionCreate) -> dict[str, Any]:
    if set(body.files) != set(MEDIA_TYPES):
        raise Invalid(f"a bundle is exactly {', '.join(sorted(MEDIA_TYPES))}", code="bundle_refused")
    data: dict[str, bytes] = {}
    for path, ref in (body.files | body.checkpoint).items():
        if await settle(objects, ref.sha256, ref.size_bytes) is None:
            raise Invalid(
                f"{path}: {ref.sha256} of {ref.size_bytes} bytes is not in the object store", code="artifact_missing"
            )
    for path, ref in body.files.items():
        data[path] = await objects.read(ref.sha256, max_size=MAX_BUNDLE_FILE_BYTES)
    try:
        return await asyncio.to_thread(check_bundle, model.contract, data)
    except BundleError as error:
        raise Invalid(str(error), code="bundle_refused") from error


async def _insert_version(
    session: Session,
    actor: str,
    model: str,
    manifest: ContentManifest,
    digest: str,
    body: VersionCreate,
    card: dict[str, Any],
) -> ModelVersion:
    version = ModelVersion(
        id=new_id("ver"),
        model=model,
        version=await store.next_version(session, model),
        content_digest=digest,
        content=manifest.model_dump(mode="json", by_alias=True),
        checkpoint={path: ref.model_dump() for path, ref in body.checkpoint.items()},
        parent=body.parent,
        dataset=body.dataset,
        training=body.training,
        label=body.label,
        card=card,
        created_by=actor,
    )
    session.add(version)
    await store.put_artifacts(
        session, [{"sha256": f.sha256, "size_bytes": f.size_bytes, "media_type": f.media_type} for f in manifest.files]
    )
    await session.flush()
    return version


async def _link_version(session: Session, digest: str, body: VersionCreate) -> None:
    node = Node(Kind.MODEL_VERSION, digest)
    if body.training:
        await lineage.link(session, node, [Node(Kind.TRAINING, body.training)], "trained by")
    if body.parent:
        await lineage.link(session, node, [Node(Kind.MODEL_VERSION, body.parent)], "fine-tuned from")
    if body.dataset:
        await lineage.link(session, node, [Node(Kind.DATASET, body.dataset)], "trained on")


async def get_version(session: Session, content_digest: str) -> VersionItem:
    found = await store.find_version(session, content_digest)
    if found is None:
        raise NotFound(f"there is no version with content {content_digest}")
    return _version(found)


async def list_versions(session: Session, model: str) -> list[VersionItem]:
    await _model(session, model)
    return [_version(v) for v in await store.list_versions(session, model)]


async def contents_of(session: Session, model: str) -> frozenset[str]:
    """Return the content digest of every version of a model."""
    return await store.contents(session, model)


async def create_release(
    session: Session,
    objects: ObjectStore,
    actor: str,
    approvals_needed: int,
    body: ReleaseCreate,
    *,
    way_back_of: str | None = None,
) -> ReleaseItem:
    """Cut a release: a new counter on a content digest, whether that is new or old."""
    version = await store.find_version(session, body.content_digest)
    if version is None:
        raise NotFound(f"there is no version with content {body.content_digest}")
    await store.lock_model(session, version.model)
    counter = await store.next_counter(session, version.model)
    release = await _insert_release(session, objects, version, counter, actor, approvals_needed, body)
    release.way_back_of = way_back_of
    await outbox.emit(session, VOUCHED, {"digest": release.digest})
    node = Node(Kind.RELEASE, release.digest)
    await lineage.link(session, node, [Node(Kind.MODEL_VERSION, release.content_digest)], "releases")
    facts = {"model": release.model, "version": release.version, "counter": counter}
    await audit.record(session, actor, "release.create", release.digest, body.reason, **facts)
    return await release_item(session, release)


async def _insert_release(
    session: Session,
    objects: ObjectStore,
    version: ModelVersion,
    counter: int,
    actor: str,
    approvals_needed: int,
    body: ReleaseCreate,
) -> Release:
    content = ContentManifest.model_validate(version.content)
    manifest = release_manifest(content, version.content_digest, version.version, counter, body.device_classes)
    stored = await objects.put_bytes(manifest)
    release = Release(
        digest=stored.sha256,
        model=version.model,
        version=version.version,
        counter=counter,
        content_digest=version.content_digest,
        device_classes=sorted(body.device_classes),
        manifest=manifest,
        reason=body.reason,
        approvals_needed=approvals_needed,
        waits_for="signatures",
        created_by=actor,
    )
    session.add(release)
    artifact = {"sha256": stored.sha256, "size_bytes": len(manifest), "media_type": RELEASE_MEDIA_TYPE}
    await store.put_artifacts(session, [artifact])
    await session.flush()
    return release


async def ask_approval(session: Session, actor: str, digest: str, evidence: Mapping[str, Any]) -> str | None:
    """Ask people for a release's approval, if any is needed; return the review."""
    release = await get_release(session, digest)
    if release.approvals_needed == 0:
        return None
    question = (
        f"May {release.model} version {release.version} (counter {release.counter}) go to "
        f"{', '.join(release.device_classes)}?"
    )
    needed = release.approvals_needed
    return await review.ask(session, actor, APPROVE, digest, question, dict(evidence), needed, bound=True)


async def get_release(session: Session, digest: str) -> ReleaseItem:
    release = await store.find_release(session, digest)
    if release is None:
        raise NotFound(f"there is no release {digest}")
    return await release_item(session, release)


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What a device is told of a release."""

    digest: str
    size_bytes: int
    counter: int
    content_digest: str


async def later_releases(session: Session, digest: str) -> list[ReleaseFacts]:
    """Return a release and every later one of the same content, by counter."""
    found = await store.later_releases(session, digest)
    if not found:
        raise NotFound(f"there is no release {digest}")
    return [ReleaseFacts(r.digest, len(r.manifest), r.counter, r.content_digest) for r in found]


async def highest_counter(session: Session, device_classes: Sequence[str]) -> int:
    """Return the highest counter of any release for any of these classes; 0 if there is none."""
    return await store.highest_counter(session, device_classes)


async def list_releases(session: Session, model: str | None = None) -> list[ReleaseItem]:
    found = await store.list_releases(session, model)
    signed = await attestations.owners(session, [release.digest for release in found], APPROVAL)
    return [await _release(session, release, signed.get(release.digest, [])) for release in found]


async def release_item(session: Session, release: Release) -> ReleaseItem:
    signed = await attestations.owners(session, [release.digest], APPROVAL)
    return await _release(session, release, signed.get(release.digest, []))


async def _release(session: Session, release: Release, signed_by: list[str]) -> ReleaseItem:
    state, people = await review.state(session, APPROVE, release.digest)
    return ReleaseItem(
        digest=release.digest,
        model=release.model,
        version=release.version,
        counter=release.counter,
        content_digest=release.content_digest,
        manifest_bytes=len(release.manifest),
        device_classes=release.device_classes,
        reason=release.reason,
        approvals_needed=release.approvals_needed,
        approved_by=people,
        review_state=state,
        signed_by=signed_by,
        way_back_of=release.way_back_of,
        published_revision=release.published_revision,
        waits_for=release.waits_for,
        created_by=release.created_by,
        created_at=release.created_at,
    )


async def deployable(session: Session, sha256: str) -> int:
    """Return the size in bytes of a file that devices may fetch.

    Raises:
        NotFound: it is not part of any version or release, whatever else lies in the object store.
    """
    found = await store.find_artifact(session, sha256)
    if found is None:
        raise NotFound(f"no release has a file {sha256}")
    return found.size_bytes


async def _model(session: Session, name: str) -> Model:
    found = await store.find_model(session, name)
    if found is None:
        raise NotFound(f"there is no model {name!r}")
    return found


def _version(version: ModelVersion) -> VersionItem:
    return VersionItem.model_validate(version, from_attributes=True)
