"""Elements of SVG, escaped, and axes with round numbers."""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

Attribute = str | float | None
WIDE, HALF, NARROW = 1232.0, 590.0, 330.0  # as wide as a card's inside, also on a phone, so that words keep their size


def element(name: str, *children: Markup | str, **attributes: Attribute) -> Markup:
    """Make an element; `class_` and `text_anchor` become class and text-anchor."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    inner = "".join(str(escape(child)) for child in children)
    return Markup(f"<{name}{''.join(parts)}>{inner}</{name}>")  # noqa: S704 - every part was escaped


def _plain(value: Attribute) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def joined(parts: Sequence[Markup]) -> Markup:
    return Markup("").join(parts)


def picture(width: float, height: float, title: str, *children: Markup, class_: str = "chart") -> Markup:
    """Frame a picture; the title is what a screen reader says of it, as one image unless there are links in it."""
    role = "group" if any("<a " in child for child in children) else "img"
    label = element("title", title)
    box = f"0 0 {_plain(float(width))} {_plain(float(height))}"
    return element(
        "svg", label, *children, class_=class_, viewBox=box, width=float(width), height=float(height), role=role
    )


def text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Markup:
    return element("text", words, x=float(x), y=float(y), class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, *children: Markup, rx: float = 0) -> Markup:
    size = {"width": float(max(width, 0)), "height": float(max(height, 0))}
    return element("rect", *children, x=float(x), y=float(y), class_=class_, rx=float(rx), **size)


def link(href: str, *children: Markup) -> Markup:
    return element("a", *children, href=href)


def clipped(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def ticks(top: float, about: int = 4) -> list[float]:
    """Return round values from 0 to at least `top`."""
    if top <= 0:
        return [0.0, 1.0]
    raw = top / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return powers of ten that span a range of positive values."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil((last - first) / 6))
    return [10.0**p for p in range(first, last + stride, stride)]


def short(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"1e{round(math.log10(abs(value)))}" if math.log10(abs(value)).is_integer() else f"{value:.1e}"
    return f"{value:g}"
