"""Reviews as the API takes and gives them."""

from datetime import datetime
from typing import Any

from pydantic import Field

from control_plane.kit.pages import Schema
from control_plane.review.domain import ReviewState


class ReviewAnswerCreate(Schema):
    approves: bool
    reason: str = Field(default="", max_length=2000)


class ReviewAnswerItem(Schema):
    actor: str
    approves: bool
    reason: str
    at: datetime


class ReviewItem(Schema):
    id: str
    kind: str
    subject: str
    question: str
    evidence: dict[str, Any]
    needed: int
    state: ReviewState
    asked_by: str
    asked_at: datetime
    answers: list[ReviewAnswerItem]
