"""`fleetloop keys`, as typed, and what a server and a real client make of it."""

import contextlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from asyncio import to_thread
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from agents.protocol.v1 import key_id
from agents.protocol.v1.trust import POLICY_PATH, REVOCATIONS_PATH, read_policy
from control_plane.cli.app import main
from control_plane.kit.roles import Role
from control_plane.registry.reconcile import TrustKeeper
from tests.support.live import Live, serve
from tests.support.tuf import TufClient, forget_tokens, publish, shift_clock

RELEASE = f"releases/{'a' * 64}.json"


def keys(home: Path, *arguments: str, status: int = 0, **environment: str) -> str:
    """Run the command in this process, which saves two seconds each; return what it printed."""
    printed = io.StringIO()
    given = {"FLEETLOOP_HOME": str(home), "COLUMNS": "300"} | environment
    with (
        mock.patch.dict(os.environ, given),
        mock.patch.object(sys, "argv", ["fleetloop", "keys", *arguments]),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert (ended.value.code or 0) == status, printed.getvalue()
    return " ".join(printed.getvalue().split())  # a console wraps lines


def installed(home: Path, *arguments: str, status: int = 0, **environment: str) -> str:
    """Run the command as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "control_plane.cli.app", "keys", *arguments],
        env=os.environ | {"FLEETLOOP_HOME": str(home), "COLUMNS": "200"} | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def shown(home: Path) -> Any:
    return json.loads(keys(home, "show", "--json"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    keys(tmp_path / "home", "init")
    return tmp_path / "home"


@pytest.fixture
async def live(database_url: str, home: Path) -> AsyncIterator[Live]:
    async with serve(database_url, home) as served:
        yield served


@pytest.fixture
def client(live: Live, home: Path, tmp_path: Path) -> TufClient:
    return TufClient(live.url, tmp_path / "client", (home / "keys" / "signed" / "1.root.json").read_bytes())


async def tick(live: Live) -> int:
    return await TrustKeeper(live.server.context, look_s=0).tick()


def tree(home: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(home.rglob("*")) if p.is_file()}


def test_a_rehearsal_says_what_it_would_write_and_writes_nothing(home: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(json.loads(keys(home, "policy")) | {"version": 2}))
    before = tree(home)
    assert "made signed/2.targets.json" in keys(home, "renew", "targets", "--dry-run")
    assert "made online/director-2.pem" in keys(home, "rotate", "director", "--dry-run")
    assert "made pending/targets.json" in keys(home, "renew", "targets", "--dry-run", "--no-sign")
    assert "changed signed/trust-policy.json" in keys(home, "policy", str(policy), "--dry-run")
    assert "no role" in keys(home, "rotate", "nobody", "--dry-run", status=1)
    assert tree(home) == before
    assert "would have made" in keys(tmp_path / "other", "init", "--dry-run")
    assert not (tmp_path / "other").exists()


def test_the_installed_command_explains_itself(tmp_path: Path) -> None:
    assert "Example" in installed(tmp_path, "init", "--help")
    assert "Example" in installed(tmp_path, "ceremony", "sign", "--help")


def test_init_makes_private_files_and_overwrites_nothing(home: Path) -> None:
    files = sorted((home / "keys").glob("*/*.pem"))
    assert len(files) == 3 + 2 + 7 + 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    before = {path: path.read_bytes() for path in files}
    assert "keys_exist" in keys(home, "init", status=1)
    assert {path: path.read_bytes() for path in files} == before
    ids = [each["keyid"] for each in shown(home)["keys"]]
    assert len(set(ids)) == len(ids) == 12


def test_init_with_people_and_what_makes_no_sense(tmp_path: Path) -> None:
    people = [f"--approver=ada={'3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c'}",
              f"--approver=bo={'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025'}"]  # fmt: skip
    keys(tmp_path / "a", "init", *people)
    policy = read_policy((tmp_path / "a" / "keys" / "signed" / "trust-policy.json").read_bytes())
    assert policy.approval.threshold == 2
    assert {policy.keys[each].owner for each in policy.approval.keys} == {"ada", "bo"}
    assert "threshold" in keys(tmp_path / "b", "init", *people, "--approval-threshold", "3", status=1)
    assert "makes no sense" in keys(tmp_path / "c", "init", "--root-keys", "1", status=1)
    assert "not a public key" in keys(tmp_path / "d", "init", "--approver", "ada=xyz", status=1)
    assert "NAME=PUBLICKEY" in keys(tmp_path / "e", "init", "--approver", "ada", status=1)
    assert "keys_missing" in keys(tmp_path / "f", "show", status=1)


def test_init_goes_on_after_a_crash_with_the_keys_it_made(tmp_path: Path) -> None:
    home = tmp_path / "home"
    keys(home, "init")
    before = shown(home)["keys"]
    shutil.rmtree(home / "keys" / "signed")
    (home / "keys" / "pending").mkdir()
    keys(home, "init")
    assert shown(home)["keys"] == before


@pytest.mark.parametrize("role", ["snapshot", "timestamp", "releases", "revocations"])
async def test_rotating_an_online_key_signs_everything_anew(
    live: Live, client: TufClient, home: Path, role: str
) -> None:
    await publish(live.server.context, {RELEASE: b"one"})
    await client.fetch(RELEASE)
    keys(home, "rotate", role)
    (home / "keys" / "online" / f"{role}.pem").unlink()
    assert await tick(live) == 1
    assert (await client.fetch(RELEASE, REVOCATIONS_PATH))[RELEASE] == b"one"
    await publish(live.server.context, {RELEASE: b"two"})
    assert (await client.fetch(RELEASE))[RELEASE] == b"two"
    fresh = TufClient(live.url, client.folder.with_name("fresh"), client.root)
    assert (await fetch_one(fresh)) == b"two"


async def fetch_one(client: TufClient) -> bytes | None:
    return (await client.fetch(RELEASE))[RELEASE]


@pytest.mark.parametrize("role", ["root", "targets"])
async def test_rotating_an_offline_key(live: Live, client: TufClient, home: Path, role: str) -> None:
    await client.refresh()
    held = [each["keyid"] for each in shown(home)["keys"] if each["role"] == role]
    assert "say which goes" in keys(home, "rotate", role, status=1)
    keys(home, "rotate", role, "--drop", held[0][:16])
    assert await tick(live) == 1
    await client.refresh()
    assert client.version("root") == 2
    roles = {each["role"]: each for each in (await live.server.ok("GET", "/trust", Role.VIEWER))["roles"]}
    assert held[0] not in roles[role]["keyids"]
    assert len(roles[role]["keyids"]) == len(held)


async def test_rotating_the_director_key_goes_through_the_policy(live: Live, client: TufClient, home: Path) -> None:
    context = live.server.context
    before = context.keyring.raw("director").public_hex
    keys(home, "rotate", "director", "--keep-old")
    assert await tick(live) == 1
    policy = read_policy((await client.fetch(POLICY_PATH))[POLICY_PATH] or b"")
    held = [policy.keys[each].public for each in policy.director]
    assert policy.version == 2
    assert held == [before, context.keyring.raw("director").public_hex]
    assert before != held[1]
    keys(home, "rotate", "director")
    assert await tick(live) == 1
    policy = read_policy((await client.fetch(POLICY_PATH))[POLICY_PATH] or b"")
    assert [policy.keys[each].public for each in policy.director] == [context.keyring.raw("director").public_hex]
    assert before not in {key.public for key in policy.keys.values()}


async def test_a_ceremony_with_keys_on_other_machines(
    live: Live, client: TufClient, home: Path, tmp_path: Path
) -> None:
    await client.refresh()
    away = tmp_path / "safe"
    shutil.move(home / "keys" / "offline", away)
    assert "2 signatures are missing" in keys(home, "rotate", "timestamp")
    assert "unfinished ceremony" in keys(home, "rotate", "snapshot", status=1)
    stick = tmp_path / "stick"
    keys(home, "ceremony", "export", str(stick))
    assert not list(stick.glob("*.pem"))
    said = keys(tmp_path / "nothing", "ceremony", "sign", str(stick), "--key", str(away / "root-1.pem"), "--yes")
    assert "root version 2" in said
    assert "timestamp: key" in said
    assert "1 signatures are missing" in keys(home, "ceremony", "import", str(stick))
    assert await tick(live) == 0
    wrong = keys(home, "ceremony", "sign", str(stick), "--key", str(away / "targets-1.pem"), "--yes", status=1)
    assert "key_not_wanted" in wrong
    keys(home, "ceremony", "sign", str(stick), "--key", str(away / "root-3.pem"), "--yes")
    assert "signed and put into" in keys(home, "ceremony", "import", str(stick))
    assert await tick(live) == 1
    await client.refresh()
    assert client.version("root") == 2


async def test_import_takes_nothing_else_than_what_is_pending(home: Path, tmp_path: Path) -> None:
    keys(home, "rotate", "timestamp", "--no-sign")
    stick = tmp_path / "stick"
    keys(home, "ceremony", "export", str(stick))
    plain = json.loads((stick / "root.json").read_text())
    plain["signed"]["roles"]["root"]["threshold"] = 1
    (stick / "root.json").write_text(json.dumps(plain))
    assert "ceremony_differs" in keys(home, "ceremony", "import", str(stick), status=1)
    plain["signed"]["roles"]["root"]["threshold"] = 2
    plain["signatures"] = [{"keyid": shown(home)["keys"][0]["keyid"], "sig": "00" * 64}]
    (stick / "root.json").write_text(json.dumps(plain))
    assert "root: 0 new" in keys(home, "ceremony", "import", str(stick))


async def test_publish_sends_to_a_server_with_another_home(database_url: str, home: Path, tmp_path: Path) -> None:
    """The offline office and the server share no disk: only public metadata and online keys went over."""
    there = tmp_path / "server"
    shutil.copytree(home / "keys" / "online", there / "keys" / "online")
    shutil.copy(home / "keys" / "keys.json", there / "keys" / "keys.json")
    async with serve(database_url, there) as live:
        given = {"FLEETLOOP_SERVER": live.url, "FLEETLOOP_TOKEN": live.server.tokens[Role.ADMIN]}
        refused = await to_thread(installed, home, "publish", status=1, **given | {"FLEETLOOP_TOKEN": "wrong"})
        assert "unauthenticated" in refused
        assert "published; the timestamp is at version 1" in await to_thread(installed, home, "publish", **given)
        assert "has all of this" in await to_thread(installed, home, "publish", **given)
        keys(home, "renew", "root", "targets")
        assert "version 2" in await to_thread(installed, home, "publish", **given)
        client = TufClient(live.url, tmp_path / "client", (home / "keys" / "signed" / "1.root.json").read_bytes())
        await client.refresh()
        assert (client.version("root"), client.version("targets")) == (2, 2)
        unsigned = json.loads((home / "keys" / "signed" / "2.root.json").read_text())
        unsigned["signed"]["version"] = 3
        body = {"roots": [b64encode(json.dumps(unsigned).encode()).decode()]}
        answer = await live.server.call("POST", "/trust/offline", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "root_refused")
        answer = await live.server.call("POST", "/trust/offline", Role.OPERATOR, json=body)
        assert answer.status_code == 403


async def test_a_device_that_slept_through_five_rotations_and_expiry_wakes_up(
    live: Live, client: TufClient, home: Path, monkeypatch: Any
) -> None:
    await client.refresh()
    for role in ("timestamp", "snapshot", "releases", "timestamp", "snapshot"):
        keys(home, "rotate", role)
        assert await tick(live) == 1
    await publish(live.server.context, {RELEASE: b"after"})
    assert await fetch_one(client) == b"after"
    assert client.version("root") == 5
    shift_clock(monkeypatch, timedelta(days=20))
    assert await tick(live) == 1
    assert await fetch_one(client) == b"after"


async def test_j102_every_online_key_is_lost_and_the_fleet_recovers(
    database_url: str, home: Path, tmp_path: Path
) -> None:
    """Releases, revocations, snapshot, timestamp, director, gate and trainer: all gone, none of the old ones counts."""
    root = (home / "keys" / "signed" / "1.root.json").read_bytes()
    async with serve(database_url, home) as live:
        await publish(live.server.context, {RELEASE: b"one"})
        asleep = TufClient(live.url, tmp_path / "asleep", root)
        assert await fetch_one(asleep) == b"one"
    await forget_tokens(database_url)
    shutil.rmtree(home / "keys" / "online")
    lost = [each for each in shown(home)["keys"] if each["uri"].startswith("file2:online/")]
    for each in lost:
        keys(home, "rotate", each["role"])
    async with serve(database_url, home) as live:
        assert (await live.server.ok("GET", "/trust"))["alarms"] == []
        await publish(live.server.context, {RELEASE: b"two"})
        for name in ("asleep", "new"):
            client = TufClient(live.url, tmp_path / name, root)
            found = await client.fetch(RELEASE, POLICY_PATH)
            assert found[RELEASE] == b"two"
            policy = read_policy(found[POLICY_PATH] or b"")
            assert not set(policy.keys) & {each["keyid"] for each in lost}
            assert policy.director == (key_id(live.server.context.keyring.raw("director").private.public_key()),)
