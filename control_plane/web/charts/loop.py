"""The loop as a picture: six stations from field to field, each with what it holds now."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from control_plane.web.charts.svg import WIDE, clipped, element, joined, link, picture, rect, text

WIDTH, HEIGHT = WIDE, 158.0
BOX, TALL, TOP = 166.0, 96.0, 4.0


@dataclass(frozen=True, slots=True)
class Station:
    """`busy`: something moves here just now."""

    name: str
    href: str
    figure: str
    unit: str
    detail: str
    busy: bool = False


def loop(stations: Sequence[Station]) -> Markup:
    step = (WIDTH - BOX) / (len(stations) - 1)
    boxes = [_station(station, i * step) for i, station in enumerate(stations)]
    arrows = [_arrow(i * step + BOX, (i + 1) * step, stations[i].busy) for i in range(len(stations) - 1)]
    back = _way_back()
    return picture(
        WIDTH, HEIGHT, "The loop: " + " → ".join(s.name for s in stations), back, *arrows, *boxes, class_="chart loop"
    )


def _station(station: Station, x: float) -> Markup:
    state = "station busy" if station.busy else "station"
    middle = x + 14
    parts = [
        rect(x, TOP, BOX, TALL, state, rx=10),
        text(middle, TOP + 23, station.name, "station-name"),
        _figure(middle, TOP + 58, station),
        text(middle, TOP + 81, clipped(station.detail, 26), "station-detail"),
    ]
    if station.busy:
        parts.append(element("circle", cx=x + BOX - 17, cy=TOP + 18.0, r=4.5, class_="pulse"))
    return link(station.href, joined(parts), element("title", f"{station.name}: {station.figure} {station.unit}"))


def _figure(x: float, y: float, station: Station) -> Markup:
    unit = element("tspan", station.unit, dx=7.0, class_="station-unit")
    return element("text", element("tspan", station.figure, class_="station-figure"), unit, x=x, y=y)


def _arrow(start: float, end: float, busy: bool) -> Markup:
    middle = TOP + TALL / 2
    shaft = element("path", d=f"M{start + 6:.1f} {middle} H{end - 12:.1f}", class_="way busy" if busy else "way")
    head = element(
        "path",
        d=f"M{end - 13:.1f} {middle - 5} L{end - 5:.1f} {middle} L{end - 13:.1f} {middle + 5} Z",
        class_="way-head",
    )
    return joined([shaft, head])


def _way_back() -> Markup:
    left, right, low, high = BOX / 2, WIDTH - BOX / 2, HEIGHT - 10, TOP + TALL
    path = (
        f"M{right} {high + 4} V{low - 14} Q{right} {low} {right - 14} {low} "
        f"H{left + 14} Q{left} {low} {left} {low - 14} V{high + 14}"
    )
    head = element("path", d=f"M{left - 5} {high + 14} L{left} {high + 6} L{left + 5} {high + 14} Z", class_="way-head")
    words = text(WIDTH / 2, low - 7, "what the field shows of it", "way-words", "middle")
    return joined([element("path", d=path, class_="way"), head, words])
