"""The loop as a picture: six stations from field to field, each with what it holds now; upright on a phone."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from control_plane.web.charts.svg import WIDE, clipped, element, joined, link, picture, rect, text

WIDTH, HEIGHT = WIDE, 158.0
BOX, TALL, TOP = 166.0, 96.0, 4.0
NARROW, UPRIGHT_BOX, UPRIGHT_TALL, UPRIGHT_STEP = 320.0, 276.0, 86.0, 110.0


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
    """Draw it twice; the style sheet shows the one that there is room for."""
    title = "The loop: " + " → ".join(s.name for s in stations)
    return picture(WIDTH, HEIGHT, title, *_lying(stations), class_="chart loop") + _upright(stations, title)


def _lying(stations: Sequence[Station]) -> list[Markup]:
    step = (WIDTH - BOX) / (len(stations) - 1)
    boxes = [_station(station, i * step, TOP, BOX, TALL) for i, station in enumerate(stations)]
    arrows = [_arrow(i * step + BOX, (i + 1) * step, stations[i].busy) for i in range(len(stations) - 1)]
    return [_way_back(), *arrows, *boxes]


def _upright(stations: Sequence[Station], title: str) -> Markup:
    tops = [TOP + i * UPRIGHT_STEP for i in range(len(stations))]
    boxes = [_station(s, 2, top, UPRIGHT_BOX, UPRIGHT_TALL) for s, top in zip(stations, tops, strict=True)]
    pairs = zip(stations, tops, tops[1:], strict=False)
    arrows = [_arrow_down(top + UPRIGHT_TALL, below, station.busy) for station, top, below in pairs]
    height = tops[-1] + UPRIGHT_TALL + TOP
    return picture(NARROW, height, title, _way_up(tops[0], tops[-1]), *arrows, *boxes, class_="chart upright")


def _station(station: Station, x: float, y: float, width: float, tall: float) -> Markup:
    state = "station busy" if station.busy else "station"
    middle, most = x + 14, int(width / 6.4)
    parts = [
        rect(x, y, width, tall, state, rx=10),
        text(middle, y + 23, station.name, "station-name"),
        _figure(middle, y + tall * 0.6, station),
        text(middle, y + tall - 15, clipped(station.detail, most), "station-detail"),
    ]
    if station.busy:
        parts.append(element("circle", cx=x + width - 17, cy=y + 18, r=4.5, class_="pulse"))
    return link(station.href, joined(parts), element("title", f"{station.name}: {station.figure} {station.unit}"))


def _figure(x: float, y: float, station: Station) -> Markup:
    unit = element("tspan", station.unit, dx=7.0, class_="station-unit")
    return element("text", element("tspan", station.figure, class_="station-figure"), unit, x=x, y=y)


def _arrow(start: float, end: float, busy: bool) -> Markup:
    middle = TOP + TALL / 2
    head = f"M{end - 13:.1f} {middle - 5} L{end - 5:.1f} {middle} L{end - 13:.1f} {middle + 5} Z"
    return _way(f"M{start + 6:.1f} {middle} H{end - 12:.1f}", head, busy)


def _arrow_down(start: float, end: float, busy: bool) -> Markup:
    middle = UPRIGHT_BOX / 2
    head = f"M{middle - 5} {end - 10} L{middle} {end - 3} L{middle + 5} {end - 10} Z"
    return _way(f"M{middle} {start + 4} V{end - 9}", head, busy)


def _way(path: str, head: str, busy: bool = False) -> Markup:
    shaft = element("path", d=path, class_="way busy" if busy else "way")
    return joined([shaft, element("path", d=head, class_="way-head")])


def _way_back() -> Markup:
    left, right, low, high = BOX / 2, WIDTH - BOX / 2, HEIGHT - 10, TOP + TALL
    path = (
        f"M{right} {high + 4} V{low - 14} Q{right} {low} {right - 14} {low} "
        f"H{left + 14} Q{left} {low} {left} {low - 14} V{high + 14}"
    )
    head = f"M{left - 5} {high + 14} L{left} {high + 6} L{left + 5} {high + 14} Z"
    return _way(path, head) + text(WIDTH / 2, low - 7, "what the field shows of it", "way-words", "middle")


def _way_up(top: float, bottom: float) -> Markup:
    """Lead from the last station back to the first, beside them."""
    edge, far, first, last = UPRIGHT_BOX + 2, NARROW - 12, top + UPRIGHT_TALL / 2, bottom + UPRIGHT_TALL / 2
    path = (
        f"M{edge + 4} {last} H{far - 14} Q{far} {last} {far} {last - 14} "
        f"V{first + 14} Q{far} {first} {far - 14} {first} H{edge + 12}"
    )
    return _way(path, f"M{edge + 13} {first - 5} L{edge + 5} {first} L{edge + 13} {first + 5} Z")
