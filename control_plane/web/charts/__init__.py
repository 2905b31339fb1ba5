"""Pictures as SVG text: shapes carry classes, the style sheet gives them colour in light and dark."""

from control_plane.web.charts.bars import Column, Share, SharedBar, columns, shared_bars
from control_plane.web.charts.evidence import Line, Point, evidence
from control_plane.web.charts.graph import GraphEdge, GraphNode, graph
from control_plane.web.charts.heat import Field, heat
from control_plane.web.charts.loop import Station, loop
from control_plane.web.charts.svg import HALF, WIDE
from control_plane.web.charts.whiskers import Whisker, whiskers

__all__ = [
    "HALF",
    "WIDE",
    "Column",
    "Field",
    "GraphEdge",
    "GraphNode",
    "Line",
    "Point",
    "Share",
    "SharedBar",
    "Station",
    "Whisker",
    "columns",
    "evidence",
    "graph",
    "heat",
    "loop",
    "shared_bars",
    "whiskers",
]
