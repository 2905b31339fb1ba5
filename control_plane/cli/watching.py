"""Look again and again: in place on a terminal, as JSON lines of what is new or different otherwise."""

import io
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from itertools import islice

import typer
from pydantic import BaseModel
from rich.live import Live
from rich.text import Text

from control_plane.cli.answers import Answer, Change, Document, Items, One, Report
from control_plane.cli.output import Format, View, chosen, console, for_people, text_of

MOST_LINES = 1000


def watch(look: Callable[[], Answer], every_s: float) -> int:
    """Show what `look` finds until Ctrl-C, which is how it is meant to end: exit status 0."""
    try:
        if console.is_terminal and for_people():
            _in_place(look, every_s)
        else:
            _as_lines(look, every_s)
    except KeyboardInterrupt:
        return 0
    return 0


def _in_place(look: Callable[[], Answer], every_s: float) -> None:
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            live.update(Text.from_ansi(_drawn(look())), refresh=True)
            time.sleep(every_s)


def _drawn(answer: Answer) -> str:
    """Return what an answer prints, with the terminal's colours."""
    with console.capture() as taken, redirect_stdout(io.StringIO()) as plain:
        answer.show()
    return taken.get() + plain.getvalue()


def _as_lines(look: Callable[[], Answer], every_s: float) -> None:
    seen: dict[str, str] = {}
    while True:
        for name, line in lines_of(look()):
            if seen.get(name) != line:
                seen[name] = line
                typer.echo(line)
        while len(seen) > MOST_LINES:
            del seen[next(iter(seen))]
        time.sleep(every_s)


def lines_of(answer: Answer) -> list[tuple[str, str]]:
    """Return (name, line) for every item that an answer shows, as JSON unless YAML or names were asked for."""
    if isinstance(answer, Change | Document):
        raise typer.BadParameter("--watch is for what can be looked at")
    view = View(answer.key, ()) if isinstance(answer, Report) else answer.view
    how = Format.JSON if for_people() else chosen.get()
    items = list(islice(_models(answer), MOST_LINES))
    return [(str(getattr(item, view.key, number)), text_of(item, view, how)) for number, item in enumerate(items)]


def _models(answer: Items | One | Report) -> Iterable[BaseModel]:
    if isinstance(answer, Items):
        return answer.items
    return [answer.item] if isinstance(answer, One) else answer.models
