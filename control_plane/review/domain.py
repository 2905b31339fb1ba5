"""When a question is answered: k distinct people said yes, or one said no."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class ReviewState(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Answer:
    actor: str
    approves: bool


def state_of(answers: Iterable[Answer], needed: int) -> ReviewState:
    """Return what the answers amount to; a person counts once, and one no is enough."""
    answers = list(answers)
    if any(not answer.approves for answer in answers):
        return ReviewState.REJECTED
    if len({answer.actor for answer in answers}) >= needed:
        return ReviewState.APPROVED
    return ReviewState.OPEN
