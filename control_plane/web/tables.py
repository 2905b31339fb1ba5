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
    """Give the body in pieces, with what each cell is told put in where its tag begins."""
    first, *rows = body.split("<tr")
    yield first
    for row in rows:
        before, *cells = row.split("<td")
        yield "<tr" + before
        column = before.count("<th") + _span(before) - 1
        for cell in cells:
            span = _span(cell[: cell.index(">")]) if "colspan" in cell else 1
            yield f"<td{labels[column] if span == 1 and column < len(labels) else ''}{cell}"
            column += span + cell.count("<th")


def _span(attributes: str) -> int:
    found = SPAN.search(attributes) if "colspan" in attributes else None
    return int(found[1]) if found else 1
