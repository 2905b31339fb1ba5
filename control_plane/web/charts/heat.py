"""A map of the operating domain: each pair of values is a field that was driven, simulated, both, or neither."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from control_plane.web.charts.svg import clipped, element, picture, rect, text

SIDE, LEFT, TOP = 30.0, 170.0, 118.0
MOST_VALUES = 32


@dataclass(frozen=True, slots=True)
class Field:
    """One value (`first` is `second`) or pair of values of the domain; `words` is told where one points."""

    first: str
    second: str
    state: str
    figure: str
    words: str


def heat(title: str, fields: Sequence[Field]) -> Markup | None:
    """Draw the lower half of the matrix of all values; None where there are too many to be read."""
    values = list(dict.fromkeys(field.first for field in fields if field.first == field.second))
    if not 2 <= len(values) <= MOST_VALUES:
        return None
    place = {value: number for number, value in enumerate(values)}
    rows = [text(LEFT - 10, TOP + n * SIDE + 20, clipped(v, 24), "row-small", "end") for v, n in place.items()]
    heads = [_head(value, number) for value, number in place.items()]
    drawn = [_field(field, place[field.first], place[field.second]) for field in fields]
    side = len(values) * SIDE
    return picture(LEFT + side + 60, TOP + side + 4, title, *rows, *heads, *drawn, class_="chart heat")


def _head(value: str, number: int) -> Markup:
    x, y = LEFT + number * SIDE + 18, TOP - 8
    return element("text", clipped(value, 18), x=x, y=y, class_="row-small", transform=f"rotate(-50 {x} {y})")


def _field(field: Field, first: int, second: int) -> Markup:
    column, row = sorted((first, second))
    x, y = LEFT + column * SIDE, TOP + row * SIDE
    hint = element("title", field.words)
    box = rect(x + 1, y + 1, SIDE - 2, SIDE - 2, f"field {field.state}", hint, rx=3)
    return element("g", box, text(x + SIDE / 2, y + 19, field.figure, f"on-field {field.state}", "middle"))
