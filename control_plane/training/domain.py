"""A training run is known by what went into it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from agents.protocol.v1 import digest_of


class TrainingState(StrEnum):
    ASKED = "asked"
    DONE = "done"
    FAILED = "failed"


def training_key(
    model: str, dataset: str | None, parent: str | None, recipe: Mapping[str, Any], code: str, seed: int
) -> str:
    """Return the idempotency key: hash(dataset, configuration, code, seed) as in architecture.md §11."""
    body = {"model": model, "dataset": dataset, "parent": parent, "recipe": recipe, "code": code, "seed": seed}
    return f"train-{digest_of(body)[:32]}"
