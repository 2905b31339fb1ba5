"""Every command with bad input: one clear line on stderr, the right exit status, and never a traceback."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.cli import connection
from control_plane.kit.roles import Role
from tests.support.cli import Ended, Typed, commands, fleetloop, kind_of
from tests.support.live import Live, serve

LOCAL = {"context", "init", "prepare", "doctor", "simulate", "verify", "keys", "backup", "objects"}
EVERY = commands()
SERVED = [each for each in EVERY if each.prints and each.words[0] not in LOCAL]
LISTS = {"list", "status", "check", "summary"}
WITHOUT_A_THING = {"ledger", "add", "run", "runs create", "rollouts plan"}


def one_line(ended: Ended, what: str) -> str:
    assert "Traceback" not in ended.out + ended.err, ended.out + ended.err
    lines = ended.err.splitlines()
    assert len(lines) == 1, f"{what}: {ended.err!r}"
    return lines[0]


@pytest.fixture(scope="module")
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's installation nor its user's settings play a part."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "FLEETLOOP_SERVER",
        "FLEETLOOP_TOKEN",
        "FLEETLOOP_HOME",
        "FLEETLOOP_CONTEXT",
        "FLEETLOOP_DATABASE_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLEETLOOP_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "token").write_text("fl_wrong\n")


def workload(folder: Path, typed: Typed) -> list[str]:
    return typed.filled(folder, "warehouse_amr" if typed.name == "add" else "nothing")


@pytest.mark.parametrize("typed", SERVED, ids=lambda typed: typed.name)
def test_nobody_answers(typed: Typed, nowhere: str, tmp_path: Path) -> None:
    there = ["--url", nowhere, "--token-file", str(tmp_path / "token")]
    ended = fleetloop(*workload(tmp_path, typed), *there)
    assert ended.status == 4, ended
    assert one_line(ended, typed.name).startswith("unreachable: ")
    said = json.loads(one_line(fleetloop(*workload(tmp_path, typed), *there, "-o", "json"), typed.name))
    assert (said["code"], said["status"]) == ("unreachable", 0)
    assert nowhere in said["detail"]


@pytest.mark.parametrize("typed", SERVED, ids=lambda typed: typed.name)
def test_no_server_is_known(typed: Typed, tmp_path: Path) -> None:
    ended = fleetloop(*workload(tmp_path, typed))
    assert ended.status == 2
    assert "no control plane" in one_line(ended, typed.name)


@pytest.mark.parametrize("typed", EVERY, ids=lambda typed: typed.name)
def test_an_option_is_malformed(typed: Typed, tmp_path: Path) -> None:
    ended = fleetloop(*typed.filled(tmp_path), "--no-such-option")
    assert ended.status == 2
    assert "--no-such-option" in one_line(ended, typed.name)
    if typed.prints:
        ended = fleetloop(*typed.filled(tmp_path), "-o", "spreadsheet")
        assert ended.status == 2
        assert "spreadsheet" in one_line(ended, typed.name)
    for each in typed.command.params:
        if kind_of(each) in (int, float):
            ended = fleetloop(*typed.filled(tmp_path), each.opts[0], "many")
            assert ended.status == 2
            assert each.opts[0] in one_line(ended, typed.name)


@pytest.mark.parametrize("typed", EVERY, ids=lambda typed: typed.name)
def test_an_argument_is_missing_or_too_many(typed: Typed, tmp_path: Path) -> None:
    ended = fleetloop(*typed.filled(tmp_path), "superfluous", "superfluous")
    assert ended.status in (1, 2)
    one_line(ended, typed.name)
    if any(each.required and each.param_type_name == "argument" for each in typed.command.params):
        ended = fleetloop(*typed.words)
        assert ended.status == 2
        assert "Missing" in one_line(ended, typed.name)


@pytest.fixture
async def live(database_url: str, tmp_path: Path) -> AsyncIterator[Live]:
    async with serve(database_url, tmp_path / "home") as served:
        yield served
        connection.close()


async def run(live: Live, words: list[str], token: Path, *more: str) -> Ended:
    return await asyncio.to_thread(fleetloop, *words, "--url", live.url, "--token-file", str(token), *more)


async def test_the_token_is_wrong(live: Live, tmp_path: Path) -> None:
    for typed in SERVED:
        ended = await run(live, workload(tmp_path, typed), tmp_path / "token")
        assert ended.status == 1, (typed.name, ended)
        assert one_line(ended, typed.name) == "unauthenticated: this token is unknown or revoked"


async def test_nothing_has_that_name(live: Live, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_text(live.server.tokens[Role.ADMIN])
    for typed in SERVED:
        if typed.words[-1] in LISTS and "Missing" not in fleetloop(*typed.words).err:
            continue
        for thing in ("nothing", "../x", "ü %00"):
            words = workload(tmp_path, typed) if typed.name == "add" else typed.filled(tmp_path, thing)
            ended = await run(live, words, good)
            assert "Traceback" not in ended.err, ended
            assert len(ended.err.splitlines()) <= 1, (typed.name, thing, ended.err)
            if typed.words[-1] in {"get", "show", "explain", "halt", "cancel"} and thing == "nothing":
                assert ended.status == 3, (typed.name, ended)


async def test_a_rehearsal_sends_nothing_that_changes(live: Live, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_text(live.server.tokens[Role.ADMIN])
    before = (await live.server.ok("GET", "/audit?limit=1"))["items"]
    for typed in EVERY:
        if typed.dry_runs and typed.words[0] not in LOCAL:
            ended = await run(live, workload(tmp_path, typed), good, "--dry-run", "-o", "json")
            assert "Traceback" not in ended.err
            for line in ended.out.splitlines():
                sent = json.loads(line)
                assert "path" not in sent or sent["path"].startswith("/api/v1/"), typed.name
    assert (await live.server.ok("GET", "/audit?limit=1"))["items"] == before
    assert await live.server.ok("GET", "/models") == []
    assert len(await live.server.ok("GET", "/tokens")) == len(Role)


def test_a_token_file_that_is_no_token(tmp_path: Path, nowhere: str) -> None:
    for content in (b"", b"\n\n", b"\xff\xfe", "t\u00f6ken".encode(), b"two\nlines"):
        (tmp_path / "token").write_bytes(content)
        ended = fleetloop("status", "--url", nowhere, "--token-file", str(tmp_path / "token"))
        assert ended.status == 1
        assert one_line(ended, "status").startswith("no_token: ")
    ended = fleetloop("status", "--url", nowhere, "--token-file", str(tmp_path / "none"))
    assert (ended.status, "cannot be read" in one_line(ended, "status")) == (1, True)


def test_addresses_that_are_none(tmp_path: Path) -> None:
    for url in ("nonsense", "http://", "http://[::1", "ftp://x", "http://a b/"):
        ended = fleetloop("status", "--url", url, "--token-file", str(tmp_path / "token"))
        assert ended.status == 4, (url, ended)
        one_line(ended, url)


def test_what_lies_about_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETLOOP_HOME", str(tmp_path))
    for text in ("", "{", "[]", "{}"):
        (tmp_path / "stack.json").write_text(text)
        assert one_line(fleetloop("status"), text)
    assert "keys_missing" in one_line(fleetloop("keys", "show"), "keys show")
    (tmp_path / "given").mkdir()
    assert "chain_broken" in one_line(fleetloop("verify", str(tmp_path / "given")), "verify")
    assert "no workload" in one_line(fleetloop("loop", "--workload", "nothing"), "loop")
    assert fleetloop("sign", str(tmp_path / "none.json")).status == 2
