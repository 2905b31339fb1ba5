"""Insert edges once; walk them with a query for each step."""

from collections.abc import Collection, Sequence

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert

from control_plane.kit.db import Row, Session, rows
from control_plane.lineage.domain import Edge, Kind, Node
from control_plane.lineage.models import LineageEdge

_STEP = """
select edge.source_kind, edge.source, edge.target_kind, edge.target, edge.relation, edge.at
from unnest(cast(:kinds as text[]), cast(:names as text[])) as node (kind, name)
join lineage_edge edge on edge.{here}_kind = node.kind and edge.{here} = node.name
where edge.{there}_kind = any(cast(:through as text[]))
order by edge.at, edge.source, edge.target limit :most
"""


async def insert_edges(session: Session, edges: Sequence[Edge]) -> None:
    values = [
        {
            "source_kind": e.source.kind,
            "source": e.source.name,
            "target_kind": e.target.kind,
            "target": e.target.name,
            "relation": e.relation,
        }
        for e in edges
    ]
    for start in range(0, len(values), 1000):
        await session.execute(insert(LineageEdge).values(values[start : start + 1000]).on_conflict_do_nothing())


async def walk(
    session: Session, node: Node, *, down: bool, depth: int, most: int, through: Collection[Kind] = frozenset(Kind)
) -> tuple[list[Row], bool]:
    """Walk breadth first over nodes of some kinds, a query per level: what is near comes first, and cycles end.

    Returns:
        Up to `most` edges, and whether one more step would have found more.
    """
    here, there = ("source", "target") if down else ("target", "source")
    step, over = _STEP.format(here=here, there=there), [kind.value for kind in through]
    seen, level, found = {(node.kind.value, node.name)}, [(node.kind.value, node.name)], list[Row]()
    for steps_left in range(depth, -1, -1):
        if not level or len(found) >= most:
            break
        kinds, names = [kind for kind, _ in level], [name for _, name in level]
        limit = most - len(found) if steps_left else 1
        edges = await rows(session, step, kinds=kinds, names=names, through=over, most=limit)
        if not steps_left:
            return found, bool(edges)
        found += edges
        level = [n for n in dict.fromkeys((e[f"{there}_kind"], e[there]) for e in edges) if n not in seen]
        seen.update(level)
    return found, False


async def exists(session: Session, node: Node) -> bool:
    found = await session.execute(
        text("""select 1 from lineage_edge where (source_kind = :kind and source = :name)
                or (target_kind = :kind and target = :name) limit 1"""),
        {"kind": node.kind, "name": node.name},
    )
    return found.first() is not None
