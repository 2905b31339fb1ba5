"""Commands as processes against a served control plane: watching on a terminal and in a pipe, uploads, completion."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.cli import completion, connection
from control_plane.kit.roles import Role
from tests.support.cli import fleetloop
from tests.support.device import enrol
from tests.support.live import Live, serve
from tests.support.tuf import make_home

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def live(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    make_home(tmp_path / "home")
    async with serve(database_url, tmp_path / "home") as served:
        monkeypatch.setenv("FLEETLOOP_SERVER", served.url)
        monkeypatch.setenv("FLEETLOOP_TOKEN", served.server.tokens[Role.ADMIN])
        yield served
        connection.close()


async def start(*words: str, variables: dict[str, str] | None = None, **streams: int) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "control_plane.cli.app", *words,
        env=environment | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"} | (variables or {}),
        **({"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE} | streams),
    )  # fmt: skip


async def test_a_pipe_gets_a_line_for_whatever_is_new(live: Live) -> None:
    await enrol(live.server, "sn-0")
    watching = await start("devices", "list", "--watch", "--every", "0.2")
    assert watching.stdout is not None
    first = json.loads(await asyncio.wait_for(watching.stdout.readline(), 30))
    await enrol(live.server, "sn-1")
    second = json.loads(await asyncio.wait_for(watching.stdout.readline(), 30))
    assert (first["serial"], second["serial"]) == ("sn-0", "sn-1")
    watching.send_signal(signal.SIGINT)
    rest, wrong = await watching.communicate()
    assert (watching.returncode, rest, wrong) == (0, b"", b"")


async def test_a_terminal_is_drawn_in_place_and_ctrl_c_is_no_failure(live: Live) -> None:
    device = await enrol(live.server, "sn-0")
    ours, theirs = pty.openpty()
    watching = await start("devices", "get", device.id, "-w", "--every", "0.1", stdout=theirs)
    os.close(theirs)
    seen = await asyncio.to_thread(read_until, ours, b"sn-0", 3)
    watching.send_signal(signal.SIGINT)
    os.set_blocking(ours, False)
    await watching.communicate()
    os.close(ours)
    assert watching.returncode == 0
    assert b"\x1b[" in seen
    assert b'{"id"' not in seen


async def test_no_color_is_heard(live: Live) -> None:
    seen = {}
    for variable in ("NO_COLOR", "ANY_COLOR"):
        ours, theirs = pty.openpty()
        wrong = await start("devices", "get", "nothing", stderr=theirs, variables={variable: "1"})
        os.close(theirs)
        seen[variable] = await asyncio.to_thread(read_until, ours, b"\n", 1)
        await wrong.communicate()
        os.close(ours)
        assert wrong.returncode == 3
    assert b"\x1b[31m" in seen["ANY_COLOR"]
    assert b"\x1b[3" not in seen["NO_COLOR"]


def read_until(terminal: int, word: bytes, times: int) -> bytes:
    seen = b""
    with contextlib.suppress(OSError):  # the other end is gone
        while seen.count(word) < times:
            seen += os.read(terminal, 4096)
    return seen


async def test_a_pipe_gets_no_colours_and_no_bars(live: Live, tmp_path: Path) -> None:
    (tmp_path / "log.mcap").write_bytes(os.urandom(6 << 20))
    sent = await start("artifacts", "upload", str(tmp_path / "log.mcap"), "--part-bytes", str(5 << 20), "-o", "name")
    out, err = await sent.communicate()
    assert (sent.returncode, err) == (0, b"")
    sha256 = out.decode().strip()
    got = await start("artifacts", "download", sha256, "--to", str(tmp_path / "copy"), "-o", "json")
    out, err = await got.communicate()
    assert (got.returncode, err, json.loads(out)["size_bytes"]) == (0, b"", 6 << 20)
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "log.mcap").read_bytes()


async def test_the_doctor_finds_a_sound_server(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = await asyncio.to_thread(fleetloop, "doctor", "-o", "json")
    found = {check["name"]: check for check in map(json.loads, ended.out.splitlines())}
    assert set(found) == {"server", "database", "clock", "version", "token", "trust", "disk", "prefect"}
    assert found["token"]["found"] == "admin"
    assert {name for name, check in found.items() if check["state"] == "broken"} <= {"disk"}
    monkeypatch.setenv("FLEETLOOP_TOKEN", live.server.tokens[Role.VIEWER])
    ended = await asyncio.to_thread(fleetloop, "doctor", "-o", "json")
    assert "test-viewer is viewer" in ended.out


async def test_names_come_from_the_server_while_typing(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    device = await enrol(live.server, "sn-0")
    assert await asyncio.to_thread(completion.devices, device.id[:6]) == [device.id]
    assert await asyncio.to_thread(completion.devices, "other") == []
    monkeypatch.setenv("FLEETLOOP_SERVER", "http://127.0.0.1:9")
    assert await asyncio.to_thread(completion.devices, "") == []
    monkeypatch.delenv("FLEETLOOP_SERVER")
    monkeypatch.setenv("FLEETLOOP_HOME", "nowhere")
    assert await asyncio.to_thread(completion.devices, "") == []
