"""What others wrote comes out of the command line letter by letter: it is no markup, and commands no terminal."""

import io
import json
from collections.abc import Iterator

import pytest
import yaml
from pydantic import BaseModel
from rich.console import Console

from control_plane.cli import output
from control_plane.cli.output import Format, View

EVIL = "[bold]mine[/bold] [link=http://evil.test]x[/link] :warning: [/] \\[red]"
COMMANDS = "a\x1b]0;owned\x07b\x1b[2Jc\x9b31md\u202eevil\r\nsecond"
VIEW = View("name", ("name", "note"))


class Thing(BaseModel):
    name: str
    note: str = ""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Both consoles on one terminal that understands colours."""
    file = io.StringIO()
    for name in ("console", "errors"):
        made = Console(
            file=file, force_terminal=True, width=400, highlight=False, emoji=False, color_system="truecolor"
        )
        monkeypatch.setattr(output, name, made)
    return file


@pytest.fixture(autouse=True)
def format_(request: pytest.FixtureRequest) -> Iterator[None]:
    token = output.chosen.set(getattr(request, "param", Format.TABLE))
    yield
    output.chosen.reset(token)


def quiet(text: str) -> bool:
    """Say whether a text holds nothing that a terminal obeys, but for the colours we give it."""
    for code in ("\x1b[1m", "\x1b[0m", "\x1b[31m", "\x1b[3m"):
        text = text.replace(code, "")
    return not any(c in text for c in "\x1b\x9b\x07\r\u202e")


def test_a_table_on_a_terminal_shows_markup_as_it_is(terminal: io.StringIO) -> None:
    output.show([Thing(name=EVIL, note=COMMANDS)], VIEW, title=EVIL + COMMANDS)
    shown = terminal.getvalue()
    assert shown.count(EVIL[:50]) == 2  # the title, and the name as far as a cell goes
    assert quiet(shown)
    assert "http://evil.test" in shown
    assert "]8;" not in shown  # no link was made of it


def test_one_thing_and_sentences_show_it_whole(terminal: io.StringIO) -> None:
    output.chosen.set(Format.WIDE)
    output.show_one(Thing(name=EVIL, note=COMMANDS), VIEW)
    output.say(f"{EVIL} is revoked\n{COMMANDS}")
    assert terminal.getvalue().count(EVIL) == 2
    assert quiet(terminal.getvalue())


def test_errors_show_it_as_it_is(terminal: io.StringIO) -> None:
    output.complain("not_found", f"there is no device {EVIL}{COMMANDS}", 404)
    shown = terminal.getvalue()
    assert f"there is no device {EVIL}" in shown
    assert "\x1b[31mnot_found:\x1b[0m" in shown
    assert quiet(shown)
    assert shown.count("\n") == 1


def test_what_goes_into_markup_of_ours_is_literal(terminal: io.StringIO) -> None:
    output.console.print(f"[bold]by[/bold] {output.literal(EVIL + COMMANDS)}")
    assert EVIL in terminal.getvalue()
    assert quiet(terminal.getvalue())


def test_a_pipe_gets_it_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.show([Thing(name=EVIL, note=COMMANDS)], VIEW)
    out = capsys.readouterr().out
    assert EVIL in out
    assert quiet(out)
    assert out.count("\n") == 2


@pytest.mark.parametrize("format_", [Format.JSON, Format.YAML, Format.NAME], indirect=True)
def test_programs_get_the_same_text_and_terminals_no_commands(capsys: pytest.CaptureFixture[str]) -> None:
    thing = Thing(name=COMMANDS, note=f"{EVIL} ünïcode 🤖")
    output.show([thing], VIEW)
    out = capsys.readouterr().out
    assert quiet(out)
    match output.chosen.get():
        case Format.JSON:
            assert json.loads(out) == thing.model_dump()
            assert "🤖" in out
        case Format.YAML:
            assert yaml.safe_load(out) == thing.model_dump()
        case _:
            assert out.count("\n") == 1
