"""A few figures over time as lines; where nothing was said the line has a gap."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup

from control_plane.web.charts.svg import clipped, element, joined, line, picture, short, text, ticks

WIDTH, HEIGHT = 400.0, 150.0
LEFT, RIGHT, TOP, LOW = 40.0, 10.0, 12.0, 24.0


@dataclass(frozen=True, slots=True)
class Track:
    """One line: a value for each step, None where there is none; `series` is its colour class."""

    label: str
    values: Sequence[float | None]
    series: str
    dashed: bool = False


def tracks(
    title: str,
    start: datetime,
    step: timedelta,
    items: Sequence[Track],
    unit: str,
    marks: Sequence[tuple[datetime, str]] = (),
) -> Markup:
    """Draw lines over the same steps of time from `start` on; `marks` are instants with a word each."""
    width = WIDTH
    height, number = HEIGHT, max((len(item.values) for item in items), default=0)
    top = max((value for item in items for value in item.values if value is not None), default=0)
    axis = ticks(top, 3)
    low, across = height - LOW, (width - LEFT - RIGHT) / max(number - 1, 1)
    scale = (low - TOP) / axis[-1]
    levels = [_level(width, low - value * scale, short(value)) for value in axis]
    every = max(1, -(-number // 4))
    said = "%H:%M" if number * step < timedelta(days=2) else "%m-%d"
    times = [
        text(LEFT + i * across, height - 7, f"{start + i * step:{said}}", "tick", "middle" if i else "start")
        for i in range(0, number, every)
    ]
    curves = [_curve(item, across, low, scale) for item in items]
    turns = [_turn(LEFT + (at - start) / step * across, low, words) for at, words in marks]
    parts = (*levels, *times, *turns, *curves, text(2, TOP - 2, unit, "tick"))
    return picture(width, height, title, *parts, class_="chart series")


def _turn(x: float, low: float, words: str) -> Markup:
    return joined([line(x, TOP, x, low, "turn"), text(x + 3, TOP + 9, clipped(words, 14), "tick")])


def _level(width: float, y: float, words: str) -> Markup:
    return joined([line(LEFT, y, width - RIGHT, y, "grid"), text(LEFT - 7, y + 4, words, "tick", "end")])


def _curve(item: Track, across: float, low: float, scale: float) -> Markup:
    """Draw runs of values; a lone one is a dot."""
    parts: list[Markup] = []
    run: list[tuple[float, float]] = []
    for i, value in enumerate([*item.values, None]):
        if value is not None:
            run.append((LEFT + i * across, low - value * scale))
            continue
        if len(run) > 1:
            way = " ".join(f"{'L' if n else 'M'}{x:.1f} {y:.1f}" for n, (x, y) in enumerate(run))
            parts.append(element("path", d=way, class_=f"curve {item.series}{' dashed' if item.dashed else ''}"))
        elif run:
            parts.append(element("circle", cx=run[0][0], cy=run[0][1], r=2.5, class_=f"dot {item.series}"))
        run = []
    return element("g", element("title", item.label), *parts)
