"""What a thing was made from and what was made of it, as a layered graph around it: which node stands where.

- Up stands left of the thing, down right of it; a column is a distance, so it reads from left to right.
- Of each kind a column shows the first few, those near to what they lead to; the rest is one node, "+12 more".
- An edge that would lead back, as from a version to what happened with it later, is left to the table.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from control_plane.lineage.domain import Kind
from control_plane.lineage.schemas import LineageEdgeItem, LineageNode
from control_plane.web.charts import GraphEdge, GraphNode, graph

ROOT = "root"
MOST_ROUNDS = 60
MANY = {
    Kind.DEVICE: "devices",
    Kind.FIELD_EVENT: "field events",
    Kind.RECORDING: "recordings",
    Kind.DATASET: "datasets",
    Kind.TRAINING: "trainings",
    Kind.MODEL_VERSION: "versions",
    Kind.SUITE: "suites",
    Kind.EVALUATION: "evaluations",
    Kind.GATE: "gates",
    Kind.REVIEW: "reviews",
    Kind.RELEASE: "releases",
    Kind.ROLLOUT: "rollouts",
}
Edges = Sequence[LineageEdgeItem]
Levels = Mapping[LineageNode, int]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a node stands, or the `more` of its kind that are not shown; `column` counts from the root, up below 0."""

    key: str
    column: int
    kind: Kind
    node: LineageNode | None
    more: int = 0


@dataclass(frozen=True, slots=True)
class Family:
    """A graph before it has words: spots, and edges between their keys."""

    root: LineageNode
    spots: tuple[Spot, ...]
    ways: tuple[tuple[str, str, str], ...]

    @property
    def shown(self) -> set[LineageNode]:
        return {self.root, *(spot.node for spot in self.spots if spot.node is not None)}


@dataclass(frozen=True, slots=True)
class Words:
    """How nodes are called and where they lead; `more` is where what is not shown can be seen."""

    labels: Mapping[LineageNode, str]
    href: Callable[[LineageNode], str | None]
    more: str | None = None


def family_of(root: LineageNode, up: Edges, down: Edges, shown: tuple[int, int] = (4, 2)) -> Family | None:
    """Arrange both directions around the root, up to so many nodes of a kind in a column; None if there is no edge."""
    if not up and not down:
        return None
    spots: list[Spot] = []
    ways: set[tuple[str, str, str]] = set()
    for sign, edges, most in ((-1, up, shown[0]), (1, down, shown[1])):
        keys = {root: ROOT}
        spots += _spots(root, edges, sign, most, keys)
        ways |= {(keys[e.source], keys[e.target], e.relation) for e in edges if e.source in keys and e.target in keys}
    return Family(root, tuple(spots), tuple(sorted(ways)))


def draw(family: Family | None, title: str, words: Words) -> Markup | None:
    """Draw a family; None if there is none."""
    if family is None:
        return None
    columns = defaultdict[int, list[Kind]](list, {0: []})
    for spot in family.spots:
        columns[spot.column].append(spot.kind)
    heads = [(str(column), _head(columns[column]) if column else "this") for column in sorted(columns)]
    root = GraphNode(ROOT, "0", words.labels[family.root], _one(family.root.kind), series="root")
    nodes = [root, *(_node(spot, words) for spot in family.spots)]
    return graph(title, heads, nodes, [GraphEdge(*way) for way in family.ways])


def levels(root: LineageNode, edges: Edges, *, up: bool) -> dict[LineageNode, int]:
    """Return how far each node is from the root; of two neighbours at one distance, the one that is behind moves on."""
    near = [(edge.target, edge.source) if up else (edge.source, edge.target) for edge in edges]
    found = {root: 0}
    for here, there in near:  # edges come nearest first
        if here in found:
            found.setdefault(there, found[here] + 1)
    for _ in range(MOST_ROUNDS):  # things that were made from each other would move on for ever
        moved = False
        for here, there in near:
            if there not in (root, here) and here in found and found.get(there) == found[here]:
                found[there] += 1
                moved = True
        if not moved:
            break
    return found


def _spots(root: LineageNode, edges: Edges, sign: int, most: int, keys: dict[LineageNode, str]) -> list[Spot]:
    """Place one side's nodes; tell in `keys` which spot stands for which node."""
    place = levels(root, edges, up=sign < 0)
    columns: dict[int, dict[Kind, list[LineageNode]]] = defaultdict(lambda: defaultdict(list))
    for node in _ordered(place, edges, up=sign < 0):
        columns[place[node]][node.kind].append(node)
    made: list[Spot] = []
    for level in sorted(columns):
        for kind in sorted(columns[level], key=list(Kind).index):
            made += _some(columns[level][kind], kind, sign * level, most, keys)
    return made


def _some(nodes: Sequence[LineageNode], kind: Kind, column: int, most: int, keys: dict[LineageNode, str]) -> list[Spot]:
    shown = nodes if len(nodes) <= most + 1 else nodes[:most]
    made = [Spot(f"{column}:{kind}:{node.name}", column, kind, node) for node in shown]
    keys.update({spot.node: spot.key for spot in made if spot.node is not None})
    rest = nodes[len(shown) :]
    if not rest:
        return made
    more = Spot(f"{column}:{kind}:+", column, kind, None, len(rest))
    keys.update(dict.fromkeys(rest, more.key))
    return [*made, more]


def _ordered(place: Levels, edges: Edges, *, up: bool) -> list[LineageNode]:
    """Return nodes from the root outward, each column in the order of what its nodes stand next to."""
    beside: dict[LineageNode, list[LineageNode]] = defaultdict(list)
    for edge in edges:
        here, there = (edge.target, edge.source) if up else (edge.source, edge.target)
        if place.get(here, 0) < place.get(there, 0):
            beside[there].append(here)
    ranks: dict[LineageNode, int] = {}
    columns: dict[int, list[LineageNode]] = defaultdict(list)
    for node, level in place.items():
        columns[level].append(node)
    for level in sorted(columns):
        nodes = columns[level]
        nearest = {node: min((ranks[other] for other in beside[node] if other in ranks), default=0) for node in nodes}
        ranks |= {node: rank for rank, node in enumerate(sorted(nodes, key=nearest.__getitem__))}
    return sorted((node for node in place if place[node]), key=lambda node: (place[node], ranks[node]))


def _node(spot: Spot, words: Words) -> GraphNode:
    column = str(spot.column)
    if spot.node is None:
        return GraphNode(spot.key, column, f"+{spot.more} more", MANY[spot.kind], words.more, series="more")
    label = words.labels.get(spot.node, spot.node.name)
    return GraphNode(spot.key, column, label, _one(spot.kind), words.href(spot.node))


def _head(kinds: Sequence[Kind]) -> str:
    """Name a column by its kind; in a mixed column each node says what it is."""
    only = set(kinds)
    return MANY[only.pop()] if len(only) == 1 else ""


def _one(kind: Kind) -> str:
    return "version" if kind is Kind.MODEL_VERSION else kind.replace("_", " ")
