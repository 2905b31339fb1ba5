"""Pictures as SVG text: shapes carry classes, the style sheet gives them colour in light and dark."""

from control_plane.web.charts.bars import Column, Share, SharedBar, columns, shared_bars
from control_plane.web.charts.evidence import Line, Point, evidence
from control_plane.web.charts.graph import GraphEdge, GraphNode, graph
from control_plane.web.charts.heat import Field, heat
from control_plane.web.charts.loop import Station, loop
from control_plane.web.charts.machine import machine
from control_plane.web.charts.plan import NAMED_MOST, Cell, blocks, named_cells, part_bar
from control_plane.web.charts.series import Track, tracks
from control_plane.web.charts.svg import HALF, WIDE
from control_plane.web.charts.whiskers import Whisker, whiskers

__all__ = [
    "HALF",
    "NAMED_MOST",
    "WIDE",
    "Cell",
    "Column",
    "Field",
    "GraphEdge",
    "GraphNode",
    "Line",
    "Point",
    "Share",
    "SharedBar",
    "Station",
    "Track",
    "Whisker",
    "blocks",
    "columns",
    "evidence",
    "graph",
    "heat",
    "loop",
    "machine",
    "named_cells",
    "part_bar",
    "shared_bars",
    "tracks",
    "whiskers",
]
