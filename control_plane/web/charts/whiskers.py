"""Estimates with their intervals: a dot and a whisker per line, on one scale, with lines that mean something."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from control_plane.web.charts.svg import NARROW, WIDE, clipped, element, joined, line, link, picture, short, text, ticks

MARKS_MOST = 9
LETTER = 6.0  # width of a small letter, px
ANCHORS = {-1: "end", 0: "middle", 1: "start"}


@dataclass(frozen=True, slots=True)
class Whisker:
    """`high` None is an open end; `estimate` None says that there are no data."""

    label: str
    low: float
    estimate: float | None
    high: float | None
    series: str
    words: str
    href: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Scale:
    place: Callable[[float], float]
    right: float
    marks: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things stand, in px; in a `narrow` picture label and words stand over their whisker, not beside it."""

    width: float
    left: float
    right: float
    tall: float
    narrow: bool = False


def whiskers(
    title: str,
    items: Sequence[Whisker],
    unit: str,
    *,
    lines: Sequence[tuple[float, str]] = (),
    log: bool = False,
    width: float = WIDE,
) -> Markup:
    """Draw them twice; the style sheet shows the picture that there is room for."""
    lying = _Layout(width, 168.0, width - 150, 38.0)
    upright = _Layout(NARROW, 10.0, NARROW - 46, 60.0, narrow=True)
    scale_of = _log_scale if log else _scale
    return joined(
        [_draw(title, items, unit, lines, layout, scale_of(items, lines, layout)) for layout in (lying, upright)]
    )


def _draw(
    title: str,
    items: Sequence[Whisker],
    unit: str,
    lines: Sequence[tuple[float, str]],
    layout: _Layout,
    scale: "_Scale",
) -> Markup:
    top = 18 if lines else 4
    low = len(items) * layout.tall + top
    parts = [
        joined([line(scale.place(m), 4, scale.place(m), low, "grid"), _tick(scale.place(m), low, short(m))])
        for m in scale.marks
    ]
    parts += _marked([(scale.place(at), words) for at, words in sorted(lines)], low)
    parts += [_row(item, i * layout.tall + top, layout, scale) for i, item in enumerate(items)]
    parts.append(
        text(layout.right + 12, low + (31 if layout.narrow else 17), unit, "tick", "end" if layout.narrow else "start")
    )
    kind = "chart whiskers upright" if layout.narrow else "chart whiskers"
    return picture(layout.width, low + (36 if layout.narrow else 24), title, *parts, class_=kind)


def _scale(items: Sequence[Whisker], lines: Sequence[tuple[float, str]], layout: _Layout) -> _Scale:
    left, right = layout.left, layout.right
    tops = [v for w in items for v in (w.estimate, _seen_high(w)) if v is not None]
    marks = ticks(max([*tops, *(at for at, _ in lines), 0.0]))
    return _Scale(lambda v: left + (right - left) * min(v / marks[-1], 1.0), right, marks)


def _seen_high(item: Whisker) -> float | None:
    """Let a very wide whisker leave the picture rather than flatten all the others."""
    if item.high is None or item.estimate is None:
        return item.estimate
    return min(item.high, max(4 * item.estimate, 2 * item.low)) if item.estimate > 0 else item.high


def _log_scale(items: Sequence[Whisker], lines: Sequence[tuple[float, str]], layout: _Layout) -> _Scale:
    left, right = layout.left, layout.right
    marks = log_marks([v for w in items for v in (w.low, w.estimate, w.high) if v] + [at for at, _ in lines])
    first, last = math.log(marks[0]), math.log(marks[-1])

    def place(value: float) -> float:
        share = (math.log(max(value, 1e-9)) - first) / (last - first)
        return left + (right - left) * min(max(share, 0.0), 1.0)

    return _Scale(place, right, marks)


def log_marks(values: Sequence[float]) -> list[float]:
    """Return at most nine round numbers, the first below all values and the last above."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    marks = [m * 10.0**power for power in range(low, high + 1) for m in (1, 2, 5)]
    first = max((i for i, mark in enumerate(marks) if mark <= min(values) * (1 + 1e-9)), default=0)
    last = min((i for i, mark in enumerate(marks) if mark >= max(values) * (1 - 1e-9)), default=len(marks) - 1)
    kept = marks[first : max(last, first + 1) + 1]
    if len(kept) <= MARKS_MOST:
        return kept
    stride = math.ceil((high - low) / (MARKS_MOST - 1))
    return [10.0**power for power in range(low, high + stride, stride)]


def _tick(x: float, low: float, words: str) -> Markup:
    return text(x, low + 17, words, "tick", "middle")


def _marked(lines: Sequence[tuple[float, str]], low: float) -> list[Markup]:
    """Draw lines with their words above; words that would run into each other lean away from each other."""
    near = [b - a < LETTER * (len(one) + len(other)) / 2 + 8 for (a, one), (b, other) in pairwise(lines)]
    leans = [(i > 0 and near[i - 1]) - (i < len(near) and near[i]) for i in range(len(lines))]
    found = [line(x, 12, x, low, "needed") for x, _ in lines]
    return found + [
        text(x + 3 * lean, 9, words, "tick", ANCHORS[lean]) for (x, words), lean in zip(lines, leans, strict=True)
    ]


def _row(item: Whisker, y: float, layout: _Layout, scale: _Scale) -> Markup:
    middle = y + (44 if layout.narrow else 17)
    parts = _over(item, y, layout) if layout.narrow else _beside(item, middle, layout)
    if item.estimate is not None:
        parts += _mark(item, middle, scale)
    return joined([*parts, element("title", f"{item.label}: {item.words}")])


def _named(item: Whisker, x: float, y: float, anchor: str) -> Markup:
    name = text(x, y, clipped(item.label, 24), "row-name", anchor)
    return link(item.href, name) if item.href else name


def _beside(item: Whisker, middle: float, layout: _Layout) -> list[Markup]:
    x = layout.left - 14
    parts = [_named(item, x, middle + (4 if not item.note else -1), "end")]
    if item.note:
        parts.append(text(x, middle + 13, clipped(item.note, 26), "row-small", "end"))
    return [*parts, text(layout.right + 12, middle + 4, item.words, "row-note")]


def _over(item: Whisker, y: float, layout: _Layout) -> list[Markup]:
    parts = [_named(item, layout.left, y + 15, "start"), text(layout.width - 4, y + 15, item.words, "row-note", "end")]
    return [*parts, text(layout.left, y + 29, clipped(item.note, 40), "row-small")] if item.note else parts


def _mark(item: Whisker, middle: float, scale: _Scale) -> list[Markup]:
    start, end = scale.place(item.low), scale.right if item.high is None else scale.place(item.high)
    ends = [line(start, middle - 5, start, middle + 5, f"whisker {item.series}")]
    if item.high is not None:
        ends.append(line(end, middle - 5, end, middle + 5, f"whisker {item.series}"))
    dot = element("circle", cx=scale.place(item.estimate or 0), cy=middle, r=5.5, class_=f"dot {item.series}")
    return [line(start, middle, end, middle, f"whisker {item.series}"), *ends, dot]
