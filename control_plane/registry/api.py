"""Models, versions, releases, artifacts and trust."""

from typing import Any

from agents.protocol.v1.trust import POLICY_PATH
from control_plane.kit.http import (
    AdminCall,
    OperatorCall,
    PipelineCall,
    Response,
    SigningCall,
    ViewerCall,
    WideCall,
    router,
)
from control_plane.registry import service
from control_plane.registry.schemas import (
    ArtifactCreate,
    ArtifactTicket,
    AttestationCreate,
    AttestationItem,
    ModelItem,
    ModelPut,
    OfflineCreate,
    PartsCreate,
    PartsTicket,
    ReleaseCreate,
    ReleaseItem,
    Revision,
    RevocationCreate,
    RevocationItem,
    Sha256,
    TrustItem,
    VersionCreate,
    VersionItem,
)
from control_plane.telemetry.schemas import Rate

api = router("registry")

_METADATA = {"schema": {"type": "object", "required": ["signatures", "signed"]}}
_SIGNED: dict[int | str, dict[str, Any]] = {
    200: {"description": "TUF metadata", "content": {"application/json": _METADATA}}
}


@api.get("/models", name="list_models")
async def list_models(call: ViewerCall) -> list[ModelItem]:
    """List models."""
    return await service.list_models(call.session)


@api.put("/models/{name}", name="put_model")
async def put_model(name: str, body: ModelPut, call: PipelineCall) -> ModelItem:
    """Add a model or change its words."""
    return await service.put_model(call.session, call.principal.name, name, body)


@api.get("/models/{name}", name="get_model")
async def get_model(name: str, call: ViewerCall) -> ModelItem:
    """Return one model with its contract and gate."""
    return await service.get_model(call.session, name)


@api.get("/models/{name}/rate", name="get_field_rate")
async def field_rate(name: str, content: str, call: WideCall) -> Rate:
    """Return incidents per exposure of one content in the field, with a 95 % interval clustered by device."""
    return await service.field_rate(call.session, name, content)


@api.post("/models/{name}/versions", status_code=201, name="register_version")
async def register_version(name: str, body: VersionCreate, call: PipelineCall) -> VersionItem:
    """Check a bundle against the contract and make a version of it."""
    objects, actor = call.context.objects, call.principal.name
    return await call.once(body, lambda: service.register_version(call.session, objects, actor, name, body))


@api.get("/models/{name}/versions", name="list_versions")
async def list_versions(name: str, call: ViewerCall) -> list[VersionItem]:
    """List a model's versions, newest first."""
    return await service.list_versions(call.session, name)


@api.get("/versions/{content_digest}", name="get_version")
async def get_version(content_digest: str, call: ViewerCall) -> VersionItem:
    """Return the version with a content digest."""
    return await service.get_version(call.session, content_digest)


@api.post("/releases", status_code=201, name="create_release")
async def create_release(body: ReleaseCreate, call: PipelineCall) -> ReleaseItem:
    """Cut a release: a new counter on a content digest."""
    context = call.context
    return await call.once(
        body,
        lambda: service.create_release(
            call.session, context.objects, call.principal.name, context.settings.approvals_needed, body
        ),
    )


@api.get("/releases", name="list_releases")
async def list_releases(call: ViewerCall, model: str | None = None) -> list[ReleaseItem]:
    """List releases, newest first."""
    return await service.list_releases(call.session, model)


@api.get("/releases/{digest}", name="get_release")
async def get_release(digest: str, call: ViewerCall) -> ReleaseItem:
    """Return one release and who approved it."""
    return await service.get_release(call.session, digest)


@api.post("/artifacts", status_code=201, name="announce_artifact")
async def announce_artifact(body: ArtifactCreate, call: PipelineCall) -> ArtifactTicket:
    """Ask where to put a file."""
    return await service.announce_artifact(call.context.objects, body)


@api.post("/artifacts/{sha256}/parts", status_code=201, name="announce_parts")
async def announce_parts(sha256: Sha256, body: PartsCreate, call: PipelineCall) -> PartsTicket:
    """Ask which parts of a large file are there, and where to put those that are not."""
    return await service.announce_parts(call.context.objects, sha256, body)


@api.post("/artifacts/{sha256}/parts/join", status_code=201, name="join_parts")
async def join_parts(sha256: Sha256, body: PartsCreate, call: PipelineCall) -> PartsTicket:
    """Make one file of the parts, if it has the digest that it says."""
    return await service.join_parts(call.context.objects, sha256, body)


@api.get("/artifacts/{sha256}", name="locate_artifact")
async def locate_artifact(sha256: str, call: PipelineCall) -> ArtifactTicket:
    """Ask where to get a file."""
    return await service.locate_artifact(call.context.objects, sha256)


@api.get("/releases/{digest}/manifest", name="get_release_manifest", response_class=Response, responses=_SIGNED)
async def get_release_manifest(digest: str, call: ViewerCall) -> Response:
    """Return a release's manifest as the exact bytes whose sha256 is its digest."""
    return Response(await service.manifest_bytes(call.session, digest), media_type="application/json")


@api.get("/attestations/{digest}", name="list_attestations")
async def list_attestations(digest: str, call: ViewerCall) -> list[AttestationItem]:
    """List what was signed about a content digest or a release."""
    return await service.list_attestations(call.session, digest)


@api.post("/attestations", status_code=201, name="add_attestation")
async def add_attestation(body: AttestationCreate, call: SigningCall) -> AttestationItem:
    """Hand in an attestation: provenance, gate result or approval. Its signature decides, not the caller."""
    return await service.add_attestation(call.session, call.context.objects, call.principal.name, body.envelope)


@api.get("/trust", name="get_trust")
async def get_trust(call: ViewerCall) -> TrustItem:
    """Return who may sign what, until when, and what a person must see to."""
    return await service.trust_status(call.session, call.context.keyring)


@api.get("/trust/metadata/{role}", name="get_trust_metadata", response_class=Response, responses=_SIGNED)
async def get_trust_metadata(role: str, call: ViewerCall) -> Response:
    """Return the newest metadata of a role, as the exact bytes."""
    return Response(await service.latest_metadata(call.session, role), media_type="application/json")


@api.post("/trust/offline", status_code=201, name="publish_offline")
async def publish_offline(body: OfflineCreate, call: AdminCall) -> Revision:
    """Publish root and targets that were signed offline."""
    signed = {} if body.targets is None else {"targets": body.targets}
    files = {} if body.policy is None else {POLICY_PATH: body.policy}
    context, actor = call.context, call.principal.name
    revision = await service.publish_offline(
        call.session, context.objects, context.keyring, signed, files, roots=body.roots, actor=actor
    )
    return Revision(revision=revision)


@api.post("/trust/resume", status_code=201, name="resume_after_restore")
async def resume_after_restore(call: AdminCall) -> Revision:
    """After a backup was restored: sign again, above everything that was published before."""
    context, actor = call.context, call.principal.name
    revision = await service.resume_after_restore(call.session, context.objects, context.keyring, actor)
    return Revision(revision=revision)


@api.get("/trust/revocations", name="get_revocations")
async def get_revocations(call: ViewerCall) -> RevocationItem:
    """Return everything that is revoked."""
    return await service.revocations(call.session, call.context.objects)


@api.post("/trust/revocations", status_code=201, name="revoke")
async def revoke(body: RevocationCreate, call: OperatorCall) -> RevocationItem:
    """Revoke contents, releases or keys for the whole fleet; this cannot be taken back without the offline keys."""
    context = call.context
    return await call.once(
        body, lambda: service.revoke(call.session, context.objects, context.keyring, call.principal.name, body)
    )
