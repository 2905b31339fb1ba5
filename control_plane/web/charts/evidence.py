"""Evidence over time: e-values on a logarithmic axis, each with the value at which it decides."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from control_plane.web.charts.svg import WIDE, decades, element, joined, line, picture, short, text

MOST_POINTS = 240


@dataclass(frozen=True, slots=True)
class Point:
    at: float
    value: float


@dataclass(frozen=True, slots=True)
class Line:
    """One e-process; `needed` is where it decides, and `meaning` what then."""

    name: str
    points: Sequence[Point]
    needed: float | None
    series: str
    meaning: str


@dataclass(frozen=True, slots=True)
class _Frame:
    left: float
    right: float
    top: float
    low: float
    first: float
    last: float
    small: float
    large: float

    def x(self, at: float) -> float:
        return self.left + (self.right - self.left) * (at - self.first) / max(self.last - self.first, 1e-9)

    def y(self, value: float) -> float:
        span = math.log10(self.large) - math.log10(self.small)
        share = (math.log10(min(max(value, self.small), self.large)) - math.log10(self.small)) / span
        return self.low - (self.low - self.top) * share


def evidence(title: str, lines: Sequence[Line], marks: Sequence[tuple[float, str]], width: float = WIDE) -> Markup:
    """`marks` are instants with a word, such as the start of a stage; instants are seconds since the rollout began."""
    frame = _frame(lines, width)
    grid = [
        joined(
            [
                line(frame.left, frame.y(v), frame.right, frame.y(v), "grid"),
                text(frame.left - 8, frame.y(v) + 4, short(v), "tick", "end"),
            ]
        )
        for v in decades(frame.small, frame.large)
        if frame.small <= v <= frame.large
    ]
    stages = [_stage(frame, at, words) for at, words in marks if frame.first <= at <= frame.last]
    curves = [_curve(frame, item, i) for i, item in enumerate(lines)]
    feet = [
        text(frame.left, frame.low + 18, _elapsed(frame.first), "tick"),
        text(frame.right, frame.low + 18, _elapsed(frame.last), "tick", "end"),
    ]
    return picture(width, frame.low + 26, title, *grid, *stages, *_needed(frame, lines), *curves, *feet)


def _frame(lines: Sequence[Line], width: float) -> _Frame:
    points = [p for item in lines for p in item.points]
    values = [p.value for p in points if p.value > 0] + [item.needed for item in lines if item.needed] + [1.0]
    small = 10.0 ** math.floor(math.log10(max(min(values), 1e-6)))
    large = 10.0 ** math.ceil(math.log10(min(max(values) * 1.6, 1e12)))
    times = [p.at for p in points] or [0.0, 1.0]
    first, last = min(times), max(times)
    return _Frame(52, width - 120, 20, 222, first, max(last, first + 1), small, max(large, small * 10))


def _needed(frame: _Frame, lines: Sequence[Line]) -> list[Markup]:
    """Draw each needed value once, however many lines share it."""
    parts = []
    for value in sorted({item.needed for item in lines if item.needed}):
        y = frame.y(value)
        parts += [
            line(frame.left, y, frame.right, y, "needed"),
            text(frame.left + 6, y - 5, f"{value:.3g} decides", "needed-word"),
        ]
    return parts


def _stage(frame: _Frame, at: float, words: str) -> Markup:
    x = frame.x(at)
    near_end = x > frame.right - 60
    label = text(x + (-5 if near_end else 5), 14, words, "tick", "end" if near_end else "start")
    return joined([line(x, 8, x, frame.low, "stage-line"), label])


def _curve(frame: _Frame, item: Line, index: int) -> Markup:
    stride = max(1, math.ceil(len(item.points) / MOST_POINTS))
    points = [*item.points[::stride], *item.points[-1:]]
    if not points:
        return Markup("")
    path = " ".join(f"{'L' if i else 'M'}{frame.x(p.at):.1f} {frame.y(p.value):.1f}" for i, p in enumerate(points))
    end = points[-1]
    y = frame.y(end.value)
    return joined(
        [
            element("path", d=path, class_=f"curve {item.series}" + (" dashed" if index else "")),
            element("circle", cx=frame.x(end.at), cy=y, r=4.0, class_=f"dot {item.series}"),
            text(frame.right + 9, y + 1, item.name, "row-name"),
            text(frame.right + 9, y + 14, f"{end.value:.3g}", "row-small"),
        ]
    )


def _elapsed(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
