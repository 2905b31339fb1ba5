"""Models, versions, releases and artifacts."""

from control_plane.kit.http import PipelineCall, ViewerCall, router
from control_plane.registry import service
from control_plane.registry.schemas import (
    ArtifactCreate,
    ArtifactTicket,
    ModelItem,
    ModelPut,
    ReleaseCreate,
    ReleaseItem,
    VersionCreate,
    VersionItem,
)
from control_plane.telemetry.schemas import Rate

api = router("registry")


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
async def field_rate(name: str, content: str, call: ViewerCall) -> Rate:
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


@api.get("/artifacts/{sha256}", name="locate_artifact")
async def locate_artifact(sha256: str, call: PipelineCall) -> ArtifactTicket:
    """Ask where to get a file."""
    return await service.locate_artifact(call.context.objects, sha256)
