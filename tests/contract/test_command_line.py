"""The command line describes itself, and every command that a page names is there."""

import re
from pathlib import Path

import pytest

from tests.support.cli import Typed, commands, fleetloop

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = {typed.words for typed in commands()}
GROUPS = {words[:1] for words in NAMES if len(words) > 1} | {("keys", "ceremony")}
MENTION = re.compile(r"(?<![\w/-])fleetloop ((?:[a-z][a-z-]+ ?){1,3})")
PROSE = {"closes", "fleetloop"}


@pytest.mark.parametrize("typed", commands(), ids=lambda typed: typed.name)
def test_every_command_has_a_help_text_with_an_example(typed: Typed) -> None:
    text = typed.command.help or ""
    assert len(text.split()) > 3
    assert "fleetloop " in text
    if not typed.command.hidden and typed.words[0] != "gate":
        assert f"fleetloop {typed.name}" in text
    for each in typed.command.params:
        assert each.name == "help" or each.help, f"{each.name} says nothing"


@pytest.mark.parametrize("typed", commands(), ids=lambda typed: typed.name)
def test_every_help_comes_without_a_terminal_and_without_colours(typed: Typed) -> None:
    ended = fleetloop(*typed.words, "--help")
    assert (ended.status, ended.err) == (0, "")
    assert "\x1b" not in ended.out


def test_every_command_of_the_docs_is_there() -> None:
    wrong = []
    for page in PAGES:
        for found in MENTION.finditer(page.read_text()):
            words = tuple(found[1].split())
            known = any(words[:length] in NAMES for length in (1, 2, 3)) or words[:1] in GROUPS
            if not known and words[0] not in PROSE:
                wrong.append(f"{page.relative_to(ROOT)}: fleetloop {' '.join(words)}")
    assert wrong == []


def test_changes_can_be_rehearsed() -> None:
    """Who changes something on a server, or keys here, has --dry-run."""
    changing = {"create", "halt", "pause", "resume", "proceed", "answer", "revoke", "accept", "retire", "cancel", "use"}
    changing |= {
        "add",
        "remove",
        "upload",
        "approve",
        "init",
        "publish",
        "enrolment-token",
        "token",
        "run",
        "roll-out",
        "rotate",
        "renew",
        "policy",
    }
    without = [each.name for each in commands() if each.words[-1] in changing and not each.dry_runs]
    assert without == []
