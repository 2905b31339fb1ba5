"""Dataset versions."""

from control_plane.datasets import service
from control_plane.datasets.schemas import Dataset, DatasetCreate, DatasetItem
from control_plane.kit.http import Cursor, Limit, PipelineCall, ViewerCall, router
from control_plane.kit.pages import Page

api = router("datasets", "/datasets")


@api.post("", status_code=201, name="publish_dataset")
async def publish(body: DatasetCreate, call: PipelineCall) -> DatasetItem:
    """Publish a version; its digest is its name."""
    return await call.once(body, lambda: service.publish(call.session, call.principal.name, body))


@api.get("", name="list_datasets")
async def list_datasets(call: ViewerCall, after: Cursor = None, limit: Limit = 50) -> Page[DatasetItem]:
    """List versions, newest first."""
    return await service.list_versions(call.session, after=after, limit=limit)


@api.get("/{digest}", name="get_dataset")
async def get_dataset(digest: str, call: ViewerCall) -> Dataset:
    """Return a version with its manifest."""
    return await service.get(call.session, digest)
