"""Lineage as the API gives it."""

from datetime import datetime

from control_plane.kit.pages import Schema
from control_plane.lineage.domain import Kind


class LineageNode(Schema):
    kind: Kind
    name: str


class LineageEdgeItem(Schema):
    source: LineageNode
    target: LineageNode
    relation: str
    at: datetime


class LineageGraph(Schema):
    """Edges reached from `root`, nearest first; `truncated` says that there were more than are listed."""

    root: LineageNode
    edges: list[LineageEdgeItem]
    truncated: bool
