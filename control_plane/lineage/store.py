"""Insert edges once; walk them with one recursive query."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert

from control_plane.kit.db import Row, Session, rows
from control_plane.lineage.domain import Edge, Node
from control_plane.lineage.models import LineageEdge

_STEP = """
select edge.source_kind, edge.source, edge.target_kind, edge.target, edge.relation, edge.at
from unnest(cast(:kinds as text[]), cast(:names as text[])) as node (kind, name)
join lineage_edge edge on edge.{here}_kind = node.kind and edge.{here} = node.name
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


async def walk(session: Session, node: Node, *, down: bool, depth: int, most: int) -> list[Row]:
    """Walk breadth first, a query per level, so that what is near comes first and cycles end."""
    here, there = ("source", "target") if down else ("target", "source")
    seen, level, found = {(node.kind.value, node.name)}, [(node.kind.value, node.name)], list[Row]()
    for _ in range(depth):
        if not level or len(found) >= most:
            break
        kinds, names = [kind for kind, _ in level], [name for _, name in level]
        step = await rows(session, _STEP.format(here=here), kinds=kinds, names=names, most=most - len(found))
        found += step
        level = [n for n in dict.fromkeys((e[f"{there}_kind"], e[there]) for e in step) if n not in seen]
        seen.update(level)
    return found


async def exists(session: Session, node: Node) -> bool:
    found = await session.execute(
        text("""select 1 from lineage_edge where (source_kind = :kind and source = :name)
                or (target_kind = :kind and target = :name) limit 1"""),
        {"kind": node.kind, "name": node.name},
    )
    return found.first() is not None
