"""Estimates with their intervals: a dot and a whisker per line, on one scale, with lines that mean something."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from control_plane.web.charts.svg import WIDE, clipped, element, joined, line, link, picture, short, text, ticks

MARKS_MOST = 9


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


def whiskers(
    title: str,
    items: Sequence[Whisker],
    unit: str,
    *,
    lines: Sequence[tuple[float, str]] = (),
    log: bool = False,
    width: float = WIDE,
) -> Markup:
    left, tall = 168.0, 38.0
    scale = _log_scale(items, lines, left, width - 150) if log else _scale(items, lines, left, width - 150)
    low = len(items) * tall + (18 if lines else 4)
    parts = [
        joined([line(scale.place(m), 4, scale.place(m), low, "grid"), _tick(scale.place(m), low, short(m))])
        for m in scale.marks
    ]
    parts += [_marked(scale.place(at), low, words) for at, words in lines]
    parts += [_row(item, i * tall + (18 if lines else 4), left, scale) for i, item in enumerate(items)]
    parts.append(text(width - 138, low + 17, unit, "tick"))
    return picture(width, low + 24, title, *parts, class_="chart whiskers")


def _scale(items: Sequence[Whisker], lines: Sequence[tuple[float, str]], left: float, right: float) -> _Scale:
    tops = [v for w in items for v in (w.estimate, _seen_high(w)) if v is not None]
    marks = ticks(max([*tops, *(at for at, _ in lines), 0.0]))
    return _Scale(lambda v: left + (right - left) * min(v / marks[-1], 1.0), right, marks)


def _seen_high(item: Whisker) -> float | None:
    """Let a very wide whisker leave the picture rather than flatten all the others."""
    if item.high is None or item.estimate is None:
        return item.estimate
    return min(item.high, max(4 * item.estimate, 2 * item.low)) if item.estimate > 0 else item.high


def _log_scale(items: Sequence[Whisker], lines: Sequence[tuple[float, str]], left: float, right: float) -> _Scale:
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


def _marked(x: float, low: float, words: str) -> Markup:
    return joined([line(x, 12, x, low, "needed"), text(x, 9, words, "tick", "middle")])


def _row(item: Whisker, y: float, left: float, scale: _Scale) -> Markup:
    middle = y + 17
    name = text(left - 14, middle + (4 if not item.note else -1), clipped(item.label, 24), "row-name", "end")
    parts = [link(item.href, name) if item.href else name]
    if item.note:
        parts.append(text(left - 14, middle + 13, clipped(item.note, 26), "row-small", "end"))
    if item.estimate is not None:
        parts += _mark(item, middle, scale)
    parts.append(text(scale.right + 12, middle + 4, item.words, "row-note"))
    return joined([*parts, element("title", f"{item.label}: {item.words}")])


def _mark(item: Whisker, middle: float, scale: _Scale) -> list[Markup]:
    start, end = scale.place(item.low), scale.right if item.high is None else scale.place(item.high)
    ends = [line(start, middle - 5, start, middle + 5, f"whisker {item.series}")]
    if item.high is not None:
        ends.append(line(end, middle - 5, end, middle + 5, f"whisker {item.series}"))
    dot = element("circle", cx=scale.place(item.estimate or 0), cy=middle, r=5.5, class_=f"dot {item.series}")
    return [line(start, middle, end, middle, f"whisker {item.series}"), *ends, dot]
