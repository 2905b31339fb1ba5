"""Ask for a training run; say what came of it."""

from control_plane.kit import clock, outbox
from control_plane.kit.db import Session
from control_plane.kit.errors import NotFound
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.training import store
from control_plane.training.domain import TrainingState, training_key
from control_plane.training.models import Training
from control_plane.training.schemas import TrainingCreate, TrainingFinish, TrainingItem


async def ask(session: Session, body: TrainingCreate) -> TrainingItem:
    """Ask for a run; the same dataset, configuration, code and seed is the same run."""
    key = training_key(body.model, body.dataset, body.parent, body.recipe, body.code, body.seed)
    values = body.model_dump() | {"key": key, "state": TrainingState.ASKED, "report": {}}
    if await store.insert_training(session, values):
        sources = [Node(Kind.DATASET, body.dataset)] if body.dataset else []
        sources += [Node(Kind.MODEL_VERSION, body.parent)] if body.parent else []
        await lineage.link(session, Node(Kind.TRAINING, key), sources, "learned from")
        await outbox.tell_lineage(session, "train", key, "START", clock.now())
    return _item(await _training(session, key))


async def finish(session: Session, key: str, body: TrainingFinish) -> TrainingItem:
    training = await _training(session, key, lock=True)
    if training.state != body.state and body.state is not TrainingState.ASKED:
        event = "COMPLETE" if body.state is TrainingState.DONE else "FAIL"
        await outbox.tell_lineage(session, "train", key, event, clock.now())
    training.state, training.report, training.finished_at = body.state, body.report, clock.now()
    return _item(training)


async def get(session: Session, key: str) -> TrainingItem:
    return _item(await _training(session, key))


async def list_trainings(session: Session, *, after: str | None = None, limit: int = 50) -> Page[TrainingItem]:
    cursor = decode_cursor(after)
    found = await store.list_trainings(session, before=cursor[0] if cursor else None, limit=limit + 1)
    return page_of([_item(t) for t in found], limit, lambda item: item.key)


async def _training(session: Session, key: str, *, lock: bool = False) -> Training:
    found = await store.find(session, key, lock=lock)
    if found is None:
        raise NotFound(f"there is no training {key}")
    return found


def _item(training: Training) -> TrainingItem:
    return TrainingItem.model_validate(training, from_attributes=True)
