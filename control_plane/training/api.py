"""Training runs."""

from control_plane.kit.http import Cursor, Limit, PipelineCall, ViewerCall, router
from control_plane.kit.pages import Page
from control_plane.training import service
from control_plane.training.schemas import TrainingCreate, TrainingFinish, TrainingItem

api = router("training", "/trainings")


@api.post("", status_code=201, name="ask_training")
async def ask(body: TrainingCreate, call: PipelineCall) -> TrainingItem:
    """Ask for a training run; its key follows from what goes into it."""
    return await call.once(body, lambda: service.ask(call.session, body))


@api.get("", name="list_trainings")
async def list_trainings(call: ViewerCall, after: Cursor = None, limit: Limit = 50) -> Page[TrainingItem]:
    """List training runs, newest first."""
    return await service.list_trainings(call.session, after=after, limit=limit)


@api.get("/{key}", name="get_training")
async def get_training(key: str, call: ViewerCall) -> TrainingItem:
    """Return one training run."""
    return await service.get(call.session, key)


@api.post("/{key}/finish", name="finish_training")
async def finish(key: str, body: TrainingFinish, call: PipelineCall) -> TrainingItem:
    """Say how it ended."""
    return await service.finish(call.session, key, body)
