"""A dataset version is its manifest; its digest is its name, so the same selection is the same version."""

from collections.abc import Mapping
from typing import Any

from agents.protocol.v1 import digest_of

SPLITS = ("train", "holdout")


def dataset_digest(manifest: Mapping[str, Any]) -> str:
    return digest_of(manifest)


def why_leaks(splits: Mapping[str, set[str]]) -> str | None:
    """Return why two splits are not apart, or None: what is held out must not be trained on."""
    both = splits.get("train", set()) & splits.get("holdout", set())
    if not both:
        return None
    return f"{len(both)} groups stand in train and in holdout, for example {min(both)}"
