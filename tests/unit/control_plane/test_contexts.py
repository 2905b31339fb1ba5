"""Servers by name: the file, who may read it, and which of all that says where a command goes counts."""

import json
import stat
from pathlib import Path

import pytest

from control_plane.cli import connection
from control_plane.cli.connection import Where
from control_plane.cli.contexts import contexts_file
from tests.support.cli import fleetloop

VARIABLES = ("SERVER", "TOKEN", "HOME", "CONTEXT", "CONFIG_DIR")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(f"FLEETLOOP_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "plant.token").write_text("fl_plant\n")
    return tmp_path


def add(name: str, *more: str) -> None:
    words = ("--url", f"https://{name}.example", "--token-file", "plant.token", *more)
    ended = fleetloop("context", "add", name, *words)
    assert ended.status == 0, ended


def resolved(**said: str) -> tuple[str, str]:
    connection.where.set(Where(said.get("context"), said.get("url"), Path(f) if (f := said.get("file")) else None))
    return connection.resolve("viewer")


def test_the_file_is_the_owners_alone(folder: Path) -> None:
    add("plant")
    path = folder / "config" / "fleetloop" / "contexts.yaml"
    assert contexts_file() == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "fl_plant" not in path.read_text(), "the token stays in its own file"
    path.chmod(0o644)
    ended = fleetloop("context", "list")
    assert (ended.status, ended.err.startswith("contexts_readable: ")) == (1, True)
    path.chmod(0o600)
    for text in ("[", "contexts: 3", "current: [a]", "contexts: {a: {url: nowhere}}", "\x00"):
        path.write_text(text)
        ended = fleetloop("context", "list")
        assert (ended.status, ended.err.startswith("contexts_unreadable: ")) == (1, True), ended


def test_contexts_are_added_used_listed_and_removed() -> None:
    assert fleetloop("context", "current", "-o", "name").out == "local\n"
    add("plant", "--use")
    add("depot", "--keep-token")
    listed = [json.loads(line) for line in fleetloop("context", "list", "-o", "json").out.splitlines()]
    assert [(each["name"], each["current"]) for each in listed] == [("local", False), ("plant", True), ("depot", False)]
    assert listed[2]["token"] == "kept here"
    assert fleetloop("context", "use", "depot").status == 0
    assert fleetloop("context", "current", "-o", "name").out == "depot\n"
    assert fleetloop("context", "remove", "depot").status == 0
    assert fleetloop("context", "current", "-o", "name").out == "local\n"
    assert fleetloop("context", "use", "depot").err.startswith("not_found: there is no context depot")
    assert fleetloop("context", "add", "plant", "--url", "https://x", "--token-file", "plant.token").status == 1
    assert fleetloop("context", "add", "other", "--url", "x", "--token-file", "plant.token").status == 2


def test_rehearsals_write_nothing() -> None:
    words = ("context", "add", "plant", "--url", "https://x", "--token-file", "plant.token", "--dry-run")
    assert fleetloop(*words).out.startswith("would write ")
    assert fleetloop("init", "--dry-run").out.startswith("would make ")
    assert fleetloop("simulate", "--devices", "7", "--dry-run").out.startswith("would put 7 devices into ")
    assert not contexts_file().exists()
    assert not Path(".fleetloop").exists()


def test_the_nearest_word_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add("plant", "--use")
    add("depot")
    (folder / "other.token").write_text("fl_other")
    assert resolved() == ("https://plant.example", "fl_plant")
    assert resolved(context="depot")[0] == "https://depot.example"
    assert resolved(url="http://here", file="other.token") == ("http://here", "fl_other")
    monkeypatch.setenv("FLEETLOOP_SERVER", "http://variable")
    monkeypatch.setenv("FLEETLOOP_TOKEN", "fl_variable")
    assert resolved() == ("http://variable", "fl_variable")
    assert resolved(context="depot") == ("https://depot.example", "fl_plant")
    monkeypatch.setenv("FLEETLOOP_CONTEXT", "depot")
    assert resolved() == ("https://depot.example", "fl_plant")
    assert resolved(url="http://here", file="other.token") == ("http://here", "fl_other")


def test_a_token_of_this_machine_goes_nowhere_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = folder / "home"
    (home / "tokens").mkdir(parents=True)
    (home / "tokens" / "viewer.token").write_text("fl_home")
    (home / "stack.json").write_text('{"url": "http://127.0.0.1:8080"}')
    monkeypatch.setenv("FLEETLOOP_HOME", str(home))
    assert resolved() == ("http://127.0.0.1:8080", "fl_home")
    with pytest.raises(connection.NoServer):
        resolved(url="http://stranger")


def test_init_makes_a_home_and_overwrites_nothing(folder: Path) -> None:
    assert "fleetloop up" in fleetloop("init").out
    home = folder / ".fleetloop"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    (home / ".gitignore").write_text("mine")
    add("plant")
    assert fleetloop("init").status == 0
    assert (home / ".gitignore").read_text() == "mine"
    assert "plant" in fleetloop("context", "list", "-o", "name").out
