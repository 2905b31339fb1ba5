"""Nodes and edges of lineage. An edge says that `target` was made from, decided by or runs on `source`."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    DEVICE = "device"
    FIELD_EVENT = "field_event"
    RECORDING = "recording"
    DATASET = "dataset"
    TRAINING = "training"
    MODEL_VERSION = "model_version"
    SUITE = "suite"
    EVALUATION = "evaluation"
    GATE = "gate"
    REVIEW = "review"
    RELEASE = "release"
    ROLLOUT = "rollout"


@dataclass(frozen=True, slots=True)
class Node:
    """A thing, named by its kind and its id or content digest."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Edge:
    source: Node
    target: Node
    relation: str
