"""Nodes and edges of lineage. An edge says that `target` was made from, decided by or runs on `source`."""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
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
    """`at` is when it was written down; None for one that is still to be written."""

    source: Node
    target: Node
    relation: str
    at: datetime | None = None


Forward = Mapping[Node, list[Edge]]


def bridged(root: Node, edges: Iterable[Edge], kinds: Collection[Kind], most: int) -> tuple[list[Edge], bool]:
    """Leave out nodes of other kinds than `kinds` and join what they stood between; the root stays.

    An edge that stands for a way says "through" which kinds it leads, and is as old as the youngest edge of that way.

    Returns:
        The edges, in the order of those that they begin with, and whether looking ended early, after `most` steps.
    """
    forward: defaultdict[Node, list[Edge]] = defaultdict(list)
    for edge in edges:
        forward[edge.source].append(edge)
    found: dict[tuple[Node, Node, str], Edge] = {}
    left = most
    for source in [node for node in forward if node == root or node.kind in kinds]:
        for edge in _beyond(forward, source, root, kinds):
            left -= 1
            if left < 0:
                return list(found.values()), True
            if edge.target == root or edge.target.kind in kinds:
                found.setdefault((edge.source, edge.target, edge.relation), edge)
    return list(found.values()), False


def _beyond(forward: Forward, start: Node, root: Node, kinds: Collection[Kind]) -> Iterator[Edge]:
    """Give an edge from `start` to every node on the ways out of it, each of which ends at the first that is shown."""
    seen, waiting = {start}, deque([(edge, tuple[Kind, ...]()) for edge in forward[start]])
    while waiting:
        edge, through = waiting.popleft()
        yield replace(edge, source=start, relation=f"through {', '.join(through)}" if through else edge.relation)
        if edge.target in seen or edge.target == root or edge.target.kind in kinds:
            continue
        seen.add(edge.target)
        more = through if edge.target.kind in through else (*through, edge.target.kind)
        waiting += [(_later(after, edge), more) for after in forward.get(edge.target, ())]


def _later(edge: Edge, before: Edge) -> Edge:
    instants = [at for at in (edge.at, before.at) if at is not None]
    return replace(edge, at=max(instants, default=None))
