"""Write edges in the transaction of the thing they describe; answer where something came from and went to."""

from collections.abc import Collection, Iterable

from control_plane.kit.db import Row, Session
from control_plane.kit.errors import NotFound
from control_plane.lineage import store
from control_plane.lineage.domain import Edge, Kind, Node, bridged
from control_plane.lineage.schemas import Direction, LineageEdgeItem, LineageGraph, LineageNode

MOST_EDGES = 5000
MOST_STEPS = 200_000
"""How many edges are looked at to join what hidden nodes stand between."""


async def link(session: Session, target: Node, sources: Iterable[Node], relation: str) -> None:
    """Say that `target` came from each of `sources`; saying it again changes nothing."""
    edges = [Edge(source, target, relation) for source in sources]
    if edges:
        await store.insert_edges(session, edges)


async def link_all(session: Session, edges: list[Edge]) -> None:
    """Write many edges at once."""
    if edges:
        await store.insert_edges(session, edges)


async def is_known(session: Session, node: Node) -> bool:
    return await store.exists(session, node)


async def trace(
    session: Session,
    node: Node,
    *,
    down: bool,
    depth: int = 20,
    kinds: Collection[Kind] = (),
    through: Collection[Kind] = frozenset(Kind),
) -> LineageGraph:
    """Walk the edges from one thing.

    Args:
        session: of the caller.
        node: where the walk begins.
        down: what was made of it, instead of what it came from.
        depth: how many edges deep.
        kinds: show only nodes of these, and join what the others stood between; none means all.
        through: walk only over nodes of these.

    Raises:
        NotFound: no edge names this thing.
    """
    found, deeper = await store.walk(session, node, down=down, depth=depth, most=MOST_EDGES, through=through)
    if not found and not await store.exists(session, node):
        raise NotFound(f"nothing is known of {node}")
    edges, cut = [_edge(row) for row in found], False
    if kinds:
        edges, cut = bridged(node, edges, kinds, MOST_STEPS)
    return LineageGraph(
        root=_node(node),
        edges=[_item(edge) for edge in edges],
        truncated=cut or len(found) >= MOST_EDGES,
        deeper=deeper,
    )


async def trace_ways(
    session: Session, node: Node, direction: Direction, depth: int, kinds: Collection[Kind] = ()
) -> LineageGraph:
    """Walk one way or both.

    Raises:
        NotFound: no edge names this thing.
    """
    ways = {"up": (False,), "down": (True,), "both": (False, True)}[direction]
    found = [await trace(session, node, down=down, depth=depth, kinds=kinds) for down in ways]
    edges = dict.fromkeys(edge for graph in found for edge in graph.edges)
    return LineageGraph(
        root=_node(node),
        edges=list(edges),
        truncated=any(graph.truncated for graph in found),
        deeper=any(graph.deeper for graph in found),
    )


def _edge(row: Row) -> Edge:
    source, target = Node(Kind(row["source_kind"]), row["source"]), Node(Kind(row["target_kind"]), row["target"])
    return Edge(source, target, row["relation"], row["at"])


def _node(node: Node) -> LineageNode:
    return LineageNode(kind=node.kind, name=node.name)


def _item(edge: Edge) -> LineageEdgeItem:
    if edge.at is None:
        raise ValueError(f"{edge.source} to {edge.target} was not written down")
    return LineageEdgeItem(source=_node(edge.source), target=_node(edge.target), relation=edge.relation, at=edge.at)
