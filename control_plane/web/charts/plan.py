"""A site as rows of cells, ten in a row: what each device runs is its colour, that something is wrong its mark."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from control_plane.web.charts.bars import Share
from control_plane.web.charts.svg import clipped, element, joined, link, picture, rect, text

CELL, PITCH, ACROSS, BLOCK = 24.0, 27.0, 10, 50
NAMED_WIDE, NAMED_TALL, NAMED_MOST = 132.0, 34.0, 40


@dataclass(frozen=True, slots=True)
class Cell:
    """A device, or several alike; `mark` is a trouble's class or "", `words` say what it is."""

    series: str
    mark: str
    words: str
    href: str | None = None


def part_bar(title: str, shares: Sequence[Share], width: float = 300.0, tall: float = 18.0) -> Markup:
    """Draw the parts of one whole side by side; a part is never too thin to be seen."""
    scale = width / (sum(share.value for share in shares) or 1)
    parts, x = list[Markup](), 0.0
    for share in shares:
        wide = max(share.value * scale - 1.5, 2)
        hint = element("title", f"{share.label}: {share.words}")
        parts.append(rect(x, 0, wide, tall, f"fill {share.series}", hint, rx=3))
        if wide > 8 + 7 * len(share.words):
            parts.append(text(x + wide / 2, tall - 5, share.words, f"on {share.series}", "middle"))
        x += wide + 1.5
    return picture(width, tall, title, *parts, class_="chart parts")


def blocks(name: str, cells: Sequence[Cell], size: int = BLOCK) -> list[Markup]:
    """Draw cells in blocks of a fixed size, which wrap on a page as words do and never shrink."""
    return [
        _block(f"{name}, cells {start + 1} to {min(start + size, len(cells))}", cells[start : start + size])
        for start in range(0, len(cells), size)
    ]


def named_cells(cells: Sequence[tuple[str, Cell]]) -> list[Markup]:
    """Draw each of a few cells alone, with its name beside it."""
    return [_named(name, cell) for name, cell in cells]


def _named(name: str, cell: Cell) -> Markup:
    middle = NAMED_TALL / 2
    parts = [
        rect(0.5, 0.5, NAMED_WIDE - 1, NAMED_TALL - 1, "tile", element("title", cell.words), rx=6),
        rect(5, 5, CELL, CELL, f"fill cell {cell.series}", rx=4),
        text(CELL + 12, middle + 4.5, clipped(name, 13), "row-name"),
    ]
    if cell.mark:
        parts.append(_mark(cell.mark, 5 + CELL / 2, middle))
    shape = link(cell.href, *parts) if cell.href else joined(parts)
    return picture(NAMED_WIDE, NAMED_TALL, cell.words, shape, class_="chart block")


def _block(title: str, cells: Sequence[Cell]) -> Markup:
    rows = -(-len(cells) // ACROSS)
    shapes = [_cell(cell, i % ACROSS * PITCH, i // ACROSS * PITCH) for i, cell in enumerate(cells)]
    wide = min(len(cells), ACROSS) * PITCH - PITCH + CELL
    return picture(wide, rows * PITCH - PITCH + CELL, title, *shapes, class_="chart block")


def _cell(cell: Cell, x: float, y: float) -> Markup:
    # The title inside the shape is shown on hovering; a link's name is read from it too.
    parts = [rect(x, y, CELL, CELL, f"fill cell {cell.series}", element("title", cell.words), rx=4)]
    if cell.mark:
        parts.append(_mark(cell.mark, x + CELL / 2, y + CELL / 2))
    return link(cell.href, *parts) if cell.href else joined(parts)


def _mark(kind: str, x: float, y: float) -> Markup:
    """Draw a disc with a sign of its own for each trouble, so that it is not told by colour alone."""
    signs = {
        "failed": f"M{x - 3.5} {y - 3.5} L{x + 3.5} {y + 3.5} M{x + 3.5} {y - 3.5} L{x - 3.5} {y + 3.5}",
        "reverted": f"M{x + 4} {y + 2.5} H{x - 4} L{x - 1} {y - 1} M{x - 4} {y + 2.5} L{x - 1} {y + 5.5}",
        "silent": f"M{x - 4} {y} H{x + 4}",
        "quarantined": f"M{x - 3} {y - 3} H{x + 3} V{y + 3} H{x - 3} Z",
    }
    disc = element("circle", cx=x, cy=y, r=8.0, class_=f"mark {kind}")
    return joined([disc, element("path", d=signs.get(kind, ""), class_="mark-sign")])
