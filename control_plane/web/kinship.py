"""The lineage of a version as a layered graph: from devices over data and training to releases and devices again."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from control_plane.lineage.domain import Kind
from control_plane.lineage.schemas import LineageEdgeItem, LineageNode
from control_plane.web.charts import GraphEdge, GraphNode, graph
from control_plane.web.names import Names
from control_plane.web.render import short_id

ROOT = "root"


@dataclass(frozen=True, slots=True)
class Side:
    """One direction: which column each kind stands in, from the root outward, and how many of a kind are drawn."""

    name: str
    columns: Mapping[Kind, str]
    shown: int


UP = Side(
    "up",
    {
        Kind.TRAINING: "training",
        Kind.DATASET: "data, parents",
        Kind.MODEL_VERSION: "data, parents",
        Kind.RECORDING: "recordings",
        Kind.FIELD_EVENT: "field events",
        Kind.DEVICE: "devices",
    },
    shown=4,
)
DOWN = Side(
    "down",
    {
        Kind.EVALUATION: "evaluations",
        Kind.TRAINING: "evaluations",
        Kind.GATE: "gates, children",
        Kind.MODEL_VERSION: "gates, children",
        Kind.RELEASE: "releases",
        Kind.ROLLOUT: "rollouts",
        Kind.DEVICE: "devices, events",
        Kind.FIELD_EVENT: "devices, events",
    },
    shown=2,
)
PAGES = {
    Kind.DEVICE: "/fleet/",
    Kind.RECORDING: "/recordings/",
    Kind.MODEL_VERSION: "/versions/",
    Kind.GATE: "/gates/",
    Kind.ROLLOUT: "/rollouts/",
}
MANY = {Kind.FIELD_EVENT: "events", Kind.DEVICE: "devices"}


def draw(
    names: Names,
    serials: Mapping[str, str],
    digest: str,
    up: Sequence[LineageEdgeItem],
    down: Sequence[LineageEdgeItem],
) -> Markup | None:
    """Draw both directions around the version; None if nothing is known."""
    if not up and not down:
        return None
    keys = {f"{side.name}:{Kind.MODEL_VERSION}:{digest}": ROOT for side in (UP, DOWN)}
    nodes = [GraphNode(ROOT, ROOT, names.label(digest), digest[:10], series="root")]
    for side, edges in ((UP, up), (DOWN, down)):
        for kind, found in _by_kind(side, digest, edges).items():
            nodes += _nodes(names, serials, side, kind, found, keys)
    ways = {
        (keys[a], keys[b], edge.relation)
        for side, edges in ((UP, up), (DOWN, down))
        for edge in edges
        if (a := _key(side, edge.source)) in keys and (b := _key(side, edge.target)) in keys and _forward(side, edge)
    }
    return graph("Lineage of this version", _heads(), nodes, [GraphEdge(*way) for way in sorted(ways)])


def _heads() -> list[tuple[str, str]]:
    before = [(f"up:{words}", words) for words in dict.fromkeys(UP.columns.values())]
    after = [(f"down:{words}", words) for words in dict.fromkeys(DOWN.columns.values())]
    return [*reversed(before), (ROOT, "this version"), *after]


def _key(side: Side, node: LineageNode) -> str:
    return f"{side.name}:{node.kind}:{node.name}"


def _forward(side: Side, edge: LineageEdgeItem) -> bool:
    """Leave out what an older version did in the field: it is a loop, and the picture reads from left to right."""
    return not (side is UP and edge.target.kind is Kind.FIELD_EVENT and edge.source.kind is Kind.MODEL_VERSION)


def _by_kind(side: Side, digest: str, edges: Sequence[LineageEdgeItem]) -> dict[Kind, list[str]]:
    """Return names by kind, from the root outward; upwards each kind stands in the order of what came of it."""
    found: dict[Kind, dict[str, float]] = defaultdict(dict)
    for place, edge in enumerate(edges):
        for node in (edge.source, edge.target):
            if node.kind in side.columns and node.name != digest:
                found[node.kind].setdefault(node.name, place)
    if side is UP:
        _order(found, side, edges)
    return {kind: sorted(found[kind], key=found[kind].__getitem__) for kind in side.columns if kind in found}


def _order(found: Mapping[Kind, dict[str, float]], side: Side, edges: Sequence[LineageEdgeItem]) -> None:
    made_of: dict[Kind, list[LineageEdgeItem]] = defaultdict(list)
    for edge in edges:
        made_of[edge.source.kind].append(edge)
    for kind in side.columns:
        ranks = found.get(kind, {})
        nearest: dict[str, float] = {}
        for edge in made_of[kind]:
            rank = found.get(edge.target.kind, {}).get(edge.target.name)
            if rank is not None and edge.source.name in ranks:
                nearest[edge.source.name] = min(rank, nearest.get(edge.source.name, rank))
        ordered = sorted((nearest.get(name, place), place, name) for name, place in ranks.items())
        ranks.update({name: float(place) for place, (_, _, name) in enumerate(ordered)})


def _nodes(
    names: Names, serials: Mapping[str, str], side: Side, kind: Kind, found: list[str], keys: dict[str, str]
) -> list[GraphNode]:
    """Make a node for the first few of a kind, and one for the rest; tell in `keys` which stands for which."""
    column, prefix, made = f"{side.name}:{side.columns[kind]}", f"{side.name}:{kind}", []
    shown = found if len(found) <= side.shown + 1 else found[: side.shown]
    for name in shown:
        keys[f"{prefix}:{name}"] = f"{prefix}:{name}"
        href = PAGES[kind] + name if kind in PAGES else None
        made.append(GraphNode(f"{prefix}:{name}", column, _label(names, serials, kind, name), "", href))
    rest = found[len(shown) :]
    for name in rest:
        keys[f"{prefix}:{name}"] = f"{prefix}:+"
    if rest:
        made.append(GraphNode(f"{prefix}:+", column, f"+{len(rest)} more", MANY.get(kind, ""), series="more"))
    return made


def _label(names: Names, serials: Mapping[str, str], kind: Kind, name: str) -> str:
    if kind is Kind.MODEL_VERSION:
        return names.label(name)
    if kind is Kind.DEVICE:
        return serials.get(name) or short_id(name)
    if kind is Kind.FIELD_EVENT:
        return name if len(name) <= 12 else f"…{name[-9:]}"
    return short_id(name) if "_" in name else name[:9]
