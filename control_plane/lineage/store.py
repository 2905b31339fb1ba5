"""Insert edges once; walk them with one recursive query."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert

from control_plane.kit.db import Row, Session, rows
from control_plane.lineage.domain import Edge, Node
from control_plane.lineage.models import LineageEdge

_WALK = """
with recursive walk(kind, name, depth) as (
    select cast(:kind as text), cast(:name as text), 0
  union
    select edge.{there}_kind, edge.{there}, walk.depth + 1
    from walk join lineage_edge edge on edge.{here}_kind = walk.kind and edge.{here} = walk.name
    where walk.depth < :depth
), reached as (select kind, name, min(depth) as depth from walk group by kind, name)
select edge.source_kind, edge.source, edge.target_kind, edge.target, edge.relation, edge.at
from lineage_edge edge join reached on edge.{here}_kind = reached.kind and edge.{here} = reached.name
where reached.depth < :depth
order by reached.depth, edge.at, edge.source, edge.target limit :most
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


async def walk(session: Session, node: Node, *, down: bool, depth: int, most: int) -> Sequence[Row]:
    here, there = ("source", "target") if down else ("target", "source")
    statement = _WALK.format(here=here, there=there)
    return await rows(session, statement, kind=node.kind.value, name=node.name, depth=depth, most=most)


async def exists(session: Session, node: Node) -> bool:
    found = await session.execute(
        text("""select 1 from lineage_edge where (source_kind = :kind and source = :name)
                or (target_kind = :kind and target = :name) limit 1"""),
        {"kind": node.kind, "name": node.name},
    )
    return found.first() is not None
