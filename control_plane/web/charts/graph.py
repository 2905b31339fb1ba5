"""A layered graph: one column per kind of thing, few nodes each, the rest as “+n more”."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from control_plane.web.charts.svg import clipped, element, joined, link, picture, rect, text

BOX, TALL, GAP_X, GAP_Y, HEAD = 108.0, 32.0, 21.0, 8.0, 26.0


@dataclass(frozen=True, slots=True)
class GraphNode:
    """`column` is the place from left to right; `key` is what edges name."""

    key: str
    column: str
    label: str
    note: str = ""
    href: str | None = None
    series: str = "node"


@dataclass(frozen=True, slots=True)
class GraphEdge:
    source: str
    target: str
    relation: str


Place = tuple[float, float]


def graph(
    title: str, heads: Sequence[tuple[str, str]], nodes: Sequence[GraphNode], edges: Sequence[GraphEdge]
) -> Markup:
    """Draw nodes under their column's head; columns without nodes are left out."""
    columns = [(key, words, [n for n in nodes if n.column == key]) for key, words in heads]
    columns = [column for column in columns if column[2]]
    most = max((len(held) for _, _, held in columns), default=1)
    height = HEAD + most * (TALL + GAP_Y)
    width = len(columns) * (BOX + GAP_X) - GAP_X + 4
    places, shapes = dict[str, Place](), []
    for i, (_, words, held) in enumerate(columns):
        x = 2 + i * (BOX + GAP_X)
        shapes.append(text(x + BOX / 2, 14, words, "head", "middle"))
        top = HEAD + (height - HEAD - len(held) * (TALL + GAP_Y)) / 2
        for j, node in enumerate(held):
            places[node.key] = (x, top + j * (TALL + GAP_Y))
            shapes.append(_node(node, *places[node.key]))
    ways = [_edge(places[e.source], places[e.target], e.relation) for e in edges if _drawn(e, places)]
    return picture(width, height, title, *ways, *shapes, class_="chart graph")


def _drawn(edge: GraphEdge, places: dict[str, Place]) -> bool:
    return edge.source in places and edge.target in places and places[edge.source][0] < places[edge.target][0]


def _node(node: GraphNode, x: float, y: float) -> Markup:
    parts = [
        rect(x, y, BOX, TALL, f"box {node.series}", rx=6),
        text(x + BOX / 2, y + (15 if node.note else 21), clipped(node.label, 14), "node-name", "middle"),
    ]
    if node.note:
        parts.append(text(x + BOX / 2, y + 28, clipped(node.note, 15), "node-note", "middle"))
    parts.append(element("title", f"{node.label} {node.note}"))
    return link(node.href, *parts) if node.href else joined(parts)


def _edge(start: Place, end: Place, relation: str) -> Markup:
    x1, y1, x2, y2 = start[0] + BOX, start[1] + TALL / 2, end[0], end[1] + TALL / 2
    bend = max((x2 - x1) / 2, 12)
    path = f"M{x1:.1f} {y1:.1f} C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    return element("path", element("title", relation), d=path, class_="edge")
