"""Bars: shares of a whole side by side, and counts over time."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from control_plane.web.charts.svg import WIDE, clipped, element, joined, line, picture, rect, text, ticks


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a bar; `series` is its colour class."""

    label: str
    value: float
    series: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class SharedBar:
    label: str
    shares: Sequence[Share]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """What happened in one slice of time."""

    label: str
    shares: Sequence[Share]


def shared_bars(title: str, bars: Sequence[SharedBar], width: float = WIDE, left: float = 130) -> Markup:
    """Draw one bar per line, all to one scale, their parts beside each other."""
    room, tall = width - left - max(90, 16 + 7 * max((len(bar.note) for bar in bars), default=0)), 30
    top = max((sum(s.value for s in bar.shares) for bar in bars), default=0) or 1
    rows = [_bar(bar, i * tall, left, room / top) for i, bar in enumerate(bars)]
    return picture(width, max(len(bars), 1) * tall + 2, title, *rows, class_="chart bars")


def _bar(bar: SharedBar, y: float, left: float, scale: float) -> Markup:
    parts, x = [text(left - 12, y + 19, clipped(bar.label, 18), "row-name", "end")], left
    for share in bar.shares:
        wide = share.value * scale
        if wide <= 0:
            continue
        hint = element("title", f"{bar.label}: {share.label} {share.words}")
        parts.append(rect(x, y + 4, max(wide - 1.5, 1), 22, f"fill {share.series}", hint, rx=3))
        if wide > 8 + 7 * len(share.words):
            parts.append(text(x + wide / 2, y + 19.5, share.words, f"on {share.series}", "middle"))
        x += wide
    return joined([*parts, text(x + 8, y + 19, bar.note, "row-note")])


def columns(title: str, items: Sequence[Column], width: float = WIDE, height: float = 168) -> Markup:
    """Draw one stacked column per slice of time, oldest first."""
    left, low = 40.0, height - 24
    top = max((sum(s.value for s in item.shares) for item in items), default=0)
    axis = ticks(top, 3)
    scale = (low - 12) / axis[-1]
    step = (width - left - 8) / max(len(items), 1)
    parts = [_grid(left, width - 8, low - value * scale, f"{value:g}") for value in axis]
    parts += [_column(item, left + i * step, step, low, scale) for i, item in enumerate(items)]
    every = max(1, len(items) // 6)
    parts += [
        text(left + (i + 0.5) * step, height - 7, item.label, "tick", "middle")
        for i, item in enumerate(items)
        if i % every == 0
    ]
    return picture(width, height, title, *parts, class_="chart columns")


def _grid(left: float, right: float, y: float, label: str) -> Markup:
    return joined([line(left, y, right, y, "grid"), text(left - 7, y + 4, label, "tick", "end")])


def _column(item: Column, x: float, step: float, low: float, scale: float) -> Markup:
    parts, y = [], low
    for share in item.shares:
        tall = share.value * scale
        if tall > 0:
            y -= tall
            hint = element("title", f"{item.label}: {share.value:g} {share.label}")
            parts.append(rect(x + step * 0.12, y, step * 0.76, tall - 0.5, f"fill {share.series}", hint, rx=1.5))
    return joined(parts)
