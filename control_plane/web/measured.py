"""What a device measured, as figures: drawn here for whoever has no scripts, and as data for charts with a cursor."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup

from control_plane.telemetry.schemas import DeviceSeries
from control_plane.web.charts import Track, tracks
from control_plane.web.names import Names

SPANS = {1: "1 h", 24: "24 h", 168: "7 d"}
HEIGHT_PX = 190
YOUNG = timedelta(hours=3)


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart: `words` are its heading."""

    key: str
    words: str
    unit: str
    items: Sequence[Track]

    @property
    def colours(self) -> list[tuple[str, str]]:
        return [(item.label, item.series) for item in self.items if not item.dashed] if len(self.items) > 1 else []


def first_span(enrolled_at: datetime, now: datetime) -> int:
    """Return the hours to show where nobody chose: of a young device 24 would be an empty picture with a dot."""
    return 1 if now - enrolled_at < YOUNG else 24


def figures_of(series: DeviceSeries, kinds: Collection[str]) -> list[Figure]:
    """Return the figures of which anything was measured; `kinds`: the field events that count as incidents."""
    every = span_words(series.step_s)
    power = [
        Track("power", series.power_w, "s1"),
        *_range(series.power_w, ("least window", series.power_min_w), ("greatest window", series.power_max_w), "s1"),
    ]
    heat = [
        Track("hottest", series.heat_c, "s3"),
        *_range(series.heat_c, ("coolest window", series.heat_min_c), None, "s0"),
    ]
    latency = [Track("median", series.latency_p50_ms, "s0"), Track("p99", series.latency_p99_ms, "s3")]
    slowed: Sequence[float | None] = series.throttled_s if any(series.throttled_s) else []
    planned = [
        Figure("latency", "Latency of a decision", "ms", latency),
        Figure("power_w", "Power", "W", power),
        Figure("heat_c", "Hottest part of the machine", "°C", heat),
        Figure("throttled_s", f"Slowed by heat, per {every}", "s", [Track("throttled", slowed, "s4")]),
        Figure("distance_m", f"Distance per {every}", "m", [Track("distance", series.distance_m, "s2")]),
        Figure("incidents", f"Incidents per {every}", "", [Track("incidents", incidents_of(series, kinds), "s5")]),
    ]
    return [figure for figure in planned if any(v is not None for item in figure.items for v in item.values)]


def _range(
    middle: Sequence[float | None],
    low: tuple[str, Sequence[float | None]],
    high: tuple[str, Sequence[float | None]] | None,
    colour: str,
) -> list[Track]:
    """Return the edges of what a step holds, where they differ from what is drawn already."""
    edges = [low, *([high] if high else [])]
    return [Track(name, values, colour, dashed=True) for name, values in edges if list(values) != list(middle)]


def incidents_of(series: DeviceSeries, kinds: Collection[str]) -> list[float | None]:
    """Count incidents in each step that has windows."""
    return [None if held is None else float(sum(held.get(kind, 0) for kind in kinds)) for held in series.counts]


def span_words(seconds: int) -> str:
    return f"{seconds} s" if seconds < 60 else f"{seconds / 60:g} min"


def marks_of(series: DeviceSeries, names: Names) -> list[tuple[datetime, str]]:
    """Return when another version began: what ran when the picture begins is no change."""
    return [(change.at, names.label(change.content_digest)) for change in series.changes[1:]]


def picture_of(figure: Figure, series: DeviceSeries, marks: Sequence[tuple[datetime, str]]) -> Markup:
    title = f"{figure.words}{f', {figure.unit}' if figure.unit else ''}"
    return tracks(title, series.starts_at, timedelta(seconds=series.step_s), figure.items, figure.unit, marks=marks)


def plot_of(figure: Figure, series: DeviceSeries, marks: Sequence[tuple[datetime, str]]) -> dict[str, Any]:
    """Return a figure as `plots.js` draws it; as many points as the series has steps."""
    start_s = series.starts_at.timestamp()
    return {
        "x": [start_s + i * series.step_s for i in range(len(series.distance_m))],
        "unit": figure.unit,
        "height": HEIGHT_PX,
        "gaps": True,
        "zero": figure.key != "heat_c",
        "sync": "device",
        "lines": [
            {"name": item.label, "series": item.series, "dashed": item.dashed, "y": list(item.values)}
            for item in figure.items
        ],
        "marks": [{"x": at.timestamp(), "words": words} for at, words in marks],
    }


@dataclass(frozen=True, slots=True)
class Line:
    """One step in words and figures; `version` is a content's digest."""

    at: datetime
    version: str | None
    values: Sequence[float | None]


def table_of(figures: Sequence[Figure], series: DeviceSeries) -> tuple[list[str], list[Line]]:
    """Return the same as a table, newest first: the heads, and a line for every step in which anything was measured."""
    items = [(figure, item) for figure in figures for item in figure.items if not item.dashed]
    heads = [f"{item.label}{f', {figure.unit}' if figure.unit else ''}" for figure, item in items]
    lines = []
    for i in reversed(range(len(series.distance_m))):
        values = [item.values[i] for _, item in items]
        if any(value is not None for value in values):
            at = series.starts_at + timedelta(seconds=i * series.step_s)
            lines.append(Line(at, _running(series, at + timedelta(seconds=series.step_s)), values))
    return heads, lines


def _running(series: DeviceSeries, at: datetime) -> str | None:
    """Return the content of the last window before an instant."""
    return next((change.content_digest for change in reversed(series.changes) if change.at < at), None)
