"""The update machine as a road with its two bad ends, and where one device stands on it."""

from collections.abc import Collection, Sequence

from markupsafe import Markup

from control_plane.web.charts.svg import WIDE, clipped, element, joined, picture, rect, text

BOX, TALL, TOP, END_TOP = 122.0, 40.0, 56.0, 150.0
HEIGHT = 206.0
Edge = tuple[str, str]


def machine(title: str, road: Sequence[str], ends: Sequence[str], edges: Collection[Edge], here: str | None) -> Markup:
    """Draw phases on the road from left to right, the ends below it, each edge once; `here` stands out."""
    step = (WIDE - 4 - BOX) / (len(road) - 1)
    places = {phase: (2 + i * step, TOP) for i, phase in enumerate(road)}
    places |= {end: (places[road[-4 + 2 * i]][0] + step * (i - 0.5), END_TOP) for i, end in enumerate(ends)}
    ways = [_way(places, edge, road, here) for edge in sorted(edges) if edge[0] in places and edge[1] in places]
    boxes = [_box(phase, places[phase], here, end=phase in ends) for phase in (*road, *ends)]
    return picture(WIDE, HEIGHT, title, *ways, *boxes, class_="chart machine")


def _box(phase: str, place: tuple[float, float], here: str | None, *, end: bool) -> Markup:
    x, y = place
    kind = f"phase{' end' if end else ''}{' here' if phase == here else ''}"
    words = text(x + BOX / 2, y + (17 if phase == here else 24.5), clipped(phase, 14), "phase-name", "middle")
    parts = [rect(x, y, BOX, TALL, kind, rx=8), words]
    if phase == here:
        parts.append(element("title", f"the device is here: {phase}"))
        parts.append(text(x + BOX / 2, y + 33, "it is here", "phase-here", "middle"))
    return element("g", *parts)


def _way(places: dict[str, tuple[float, float]], edge: Edge, road: Sequence[str], here: str | None) -> Markup:
    kind = "way out" if edge[0] == here else "way"
    (x1, y1), (x2, y2) = places[edge[0]], places[edge[1]]
    if y1 != y2:
        path, tip = _down(x1, y1, x2, y2)
    elif road.index(edge[1]) == road.index(edge[0]) + 1:
        path, tip = f"M{x1 + BOX:.1f} {y1 + TALL / 2} H{x2 - 7:.1f}", (x2 - 1, y1 + TALL / 2, "right")
    else:
        path, tip = _arc(x1, x2, y1, abs(road.index(edge[1]) - road.index(edge[0])))
    shaft = element("path", element("title", f"{edge[0]} → {edge[1]}"), d=path, class_=kind)
    return joined([shaft, element("path", d=_head(*tip), class_=f"{kind}-head" if kind == "way" else "way-head out")])


def _down(x1: float, y1: float, x2: float, y2: float) -> tuple[str, tuple[float, float, str]]:
    start, end, low = x1 + BOX * 0.5, x2 + BOX * 0.5, y2 - 7
    bend = (low - y1 - TALL) * 0.55
    top = y1 + TALL
    return f"M{start:.1f} {top} C{start:.1f} {top + bend:.1f} {end:.1f} {low - bend:.1f} {end:.1f} {low}", (
        end,
        y2,
        "down",
    )


def _arc(x1: float, x2: float, y: float, steps: int) -> tuple[str, tuple[float, float, str]]:
    """Go over the boxes between; the way back arrives left of the middle, the way on leaves right of it."""
    forward = x2 > x1
    start, end = (x1 + BOX * 0.7, x2 + BOX * 0.3) if forward else (x1 + BOX * 0.3, x2 + BOX * 0.7)
    high = y - 14 - min(steps, 6) * 6.5
    path = f"M{start:.1f} {y} C{start:.1f} {high:.1f} {end:.1f} {high:.1f} {end:.1f} {y - 7}"
    return path, (end, y - 1, "down")


def _head(x: float, y: float, way: str) -> str:
    if way == "right":
        return f"M{x - 8:.1f} {y - 4.5} L{x:.1f} {y} L{x - 8:.1f} {y + 4.5} Z"
    return f"M{x - 4.5:.1f} {y - 8} L{x:.1f} {y} L{x + 4.5:.1f} {y - 8} Z"
