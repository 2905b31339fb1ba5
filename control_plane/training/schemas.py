"""Training runs as the API takes and gives them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from control_plane.kit.pages import Schema
from control_plane.training.domain import TrainingState

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class TrainingCreate(Schema):
    """`code` is a digest of the training code; with the rest it makes the run's key."""

    model: str = Field(max_length=100)
    dataset: Sha256 | None = None
    parent: Sha256 | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    code: str = Field(max_length=200)
    seed: int
    run_id: str | None = None


class TrainingFinish(Schema):
    state: TrainingState
    report: dict[str, Any] = Field(default_factory=dict)


class TrainingItem(Schema):
    key: str
    model: str
    dataset: str | None
    parent: str | None
    recipe: dict[str, Any]
    code: str
    seed: int
    run_id: str | None
    state: TrainingState
    report: dict[str, Any]
    created_at: datetime
    finished_at: datetime | None
