"""Lineage as the API gives it."""

from datetime import datetime
from typing import Literal

from control_plane.kit.pages import Schema
from control_plane.lineage.domain import Kind

Direction = Literal["up", "down", "both"]


class LineageNode(Schema):
    kind: Kind
    name: str


class LineageEdgeItem(Schema):
    source: LineageNode
    target: LineageNode
    relation: str
    at: datetime


class LineageGraph(Schema):
    """Edges reached from `root`, nearest first, those that lead up to it before those that lead away.

    `truncated` says that there were more than are listed, `deeper` that one more step would have found more.
    """

    root: LineageNode
    edges: list[LineageEdgeItem]
    truncated: bool
    deeper: bool
