"""Tables that a phone shows as cards: each cell is told the head of its column, once the page is rendered.

This reads our own templates' output: every tag is closed and values are escaped, so that a tag ends at its `>`.
"""

import html
import re
from collections.abc import Iterator

TABLE = re.compile(r'<table(?![^>]*class="devices")[^>]*>.*?</table>', re.DOTALL)
HEAD = re.compile(r"<thead>.*?</thead>", re.DOTALL)
COLUMN = re.compile(r"<th\b([^>]*)>(.*?)</th>", re.DOTALL)
UNSEEN = re.compile(r'<span (?:class="unseen"|aria-hidden="true")[^>]*>.*?</span>', re.DOTALL)
TAG = re.compile(r"<[^>]*>")
CELL = re.compile(r"<(tr|td|th)\b([^>]*)>")
SPAN = re.compile(r'colspan="(\d+)"')


def labelled(page: str) -> str:
    """Give cells their column's words as `data-label`; what heads a row or is over several columns has none."""
    return TABLE.sub(_label_table, page)


def _label_table(found: re.Match[str]) -> str:
    table = found[0]
    head = HEAD.search(table)
    if head is None:
        return table
    labels = [f' data-label="{words}"' if words else "" for words in _columns(head[0])]
    return table[: head.end()] + "".join(_label_cells(table[head.end() :], labels))


def _columns(head: str) -> Iterator[str]:
    for attributes, inner in COLUMN.findall(head):
        words = html.escape(html.unescape(TAG.sub("", UNSEEN.sub("", inner))).strip())
        yield from [words] * _span(attributes)


def _label_cells(body: str, labels: list[str]) -> Iterator[str]:
    """Give the body in pieces, with what each cell is told put in before its tag ends."""
    column = done = 0
    for cell in CELL.finditer(body):
        if cell[1] == "tr":
            column = 0
            continue
        span = _span(cell[2])
        if cell[1] == "td" and span == 1 and column < len(labels):
            yield body[done : cell.end() - 1] + labels[column]
            done = cell.end() - 1
        column += span
    yield body[done:]


def _span(attributes: str) -> int:
    found = SPAN.search(attributes) if "colspan" in attributes else None
    return int(found[1]) if found else 1
