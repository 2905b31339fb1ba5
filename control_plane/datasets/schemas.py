"""Datasets as the API takes and gives them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from control_plane.kit.pages import Schema

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Clip(Schema):
    """One recording in a dataset; `group` is what must not be on both sides of the split.

    `fingerprint` digests the rounded parameters of what happened, so that near-duplicates among tests are found.
    """

    recording: Sha256
    size_bytes: int = Field(ge=1)
    event_id: str | None
    trigger: str
    group: str = Field(min_length=1, max_length=200)
    split: Literal["train", "holdout"]
    fingerprint: str = Field(default="", max_length=64)


class DatasetCreate(Schema):
    """`query` and `code` say how the clips were chosen; `parents` are digests of datasets this one extends."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    query: dict[str, Any]
    code: str = Field(max_length=200)
    clips: list[Clip] = Field(min_length=1, max_length=100_000)
    parents: list[Sha256] = Field(default_factory=list, max_length=100)
    card: dict[str, Any] = Field(default_factory=dict)


class DatasetItem(Schema):
    digest: str
    name: str
    clips: int
    holdout: int
    card: dict[str, Any]
    created_by: str
    created_at: datetime


class Dataset(DatasetItem):
    manifest: dict[str, Any]
