"""The TUF repository as python-tuf's own client sees it, over real HTTP."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agents.protocol.v1.trust import POLICY_PATH, REVOCATIONS_PATH, read_policy, read_revocations
from control_plane.kit.errors import Invalid, Refused
from control_plane.kit.roles import Role
from control_plane.kit.settings import Settings
from control_plane.main import create_app
from control_plane.registry import service
from control_plane.registry.domain.tuf import BINS, role_of
from control_plane.registry.reconcile import TrustKeeper
from tests.support.live import Live, serve
from tests.support.tuf import TufClient, forget_tokens, make_home, publish, shift_clock

RELEASE = f"releases/{'a' * 64}.json"
OTHER = f"releases/{'b' * 64}.json"


@pytest.fixture
async def live(database_url: str, tmp_path: Path) -> AsyncIterator[Live]:
    make_home(tmp_path / "home")
    async with serve(database_url, tmp_path / "home") as served:
        yield served


@pytest.fixture
def client(live: Live, tmp_path: Path) -> TufClient:
    root = (tmp_path / "home" / "keys" / "signed" / "1.root.json").read_bytes()
    return TufClient(live.url, tmp_path / "client", root)


async def versions(live: Live) -> dict[str, int]:
    async with live.server.context.database.transaction() as session:
        return {role: held.version for role, held in (await service.newest(session)).items()}


async def test_a_client_reads_policy_revocations_and_releases(live: Live, client: TufClient) -> None:
    assert await publish(live.server.context, {RELEASE: b"one"}, custom={RELEASE: {"counter": 3}}) == 2
    found = await client.fetch(POLICY_PATH, REVOCATIONS_PATH, RELEASE, OTHER)
    assert found[RELEASE] == b"one"
    assert found[OTHER] is None
    assert read_policy(found[POLICY_PATH] or b"").approval.threshold == 1
    assert read_revocations(found[REVOCATIONS_PATH] or b"").digests == frozenset()
    cold = [name for name in client.asked if not name.startswith("targets/")]
    assert cold[:4] == ["2.root.json", "timestamp.json", "2.snapshot.json", "1.targets.json"]
    await client.fetch(RELEASE)
    assert client.asked == ["2.root.json", "timestamp.json"]


async def test_one_release_changes_its_bin_snapshot_and_timestamp_only(live: Live, client: TufClient) -> None:
    before = await versions(live)
    await publish(live.server.context, {RELEASE: b"one"})
    after = await versions(live)
    assert {role for role in after if after[role] != before[role]} == {role_of(RELEASE), "snapshot", "timestamp"}
    assert set(after) == {"root", "targets", "snapshot", "timestamp", "revocations", "releases", *BINS}
    assert await publish(live.server.context, {RELEASE: b"one"}) == after["timestamp"], "the same again is nothing new"
    assert await publish(live.server.context, {RELEASE: b"two"}) == after["timestamp"] + 1
    assert (await client.fetch(RELEASE))[RELEASE] == b"two"


@pytest.mark.parametrize("path", ["policy/trust-policy.json", "releases/../x", "releases/a/b", "other/x", "releases/"])
async def test_paths_that_no_online_key_may_list(live: Live, path: str) -> None:
    with pytest.raises(Invalid, match="is no path of"):
        await publish(live.server.context, {path: b"x"})


async def test_revoking_reaches_clients_and_adds_up(live: Live, client: TufClient) -> None:
    for digest in ("c" * 64, "d" * 64):
        body = {"content_digests": [digest], "reason": "crashes at docks"}
        await live.server.ok("POST", "/trust/revocations", Role.OPERATOR, json=body)
    seen = read_revocations((await client.fetch(REVOCATIONS_PATH))[REVOCATIONS_PATH] or b"")
    assert seen.content_digests == ("c" * 64, "d" * 64)
    nothing = await live.server.call("POST", "/trust/revocations", Role.OPERATOR, json={"reason": "x"})
    assert nothing.status_code == 422
    viewer = await live.server.call("POST", "/trust/revocations", Role.VIEWER, json={"reason": "x", "keys": ["e" * 64]})
    assert viewer.status_code == 403


async def test_metadata_routes_are_immutable_bounded_and_closed(live: Live, client: TufClient) -> None:
    http = live.server.http
    await publish(live.server.context, {RELEASE: b"one"})
    first = await http.get("/device/v1/tuf/1.root.json")
    assert "immutable" in first.headers["cache-control"]
    again = await http.get("/device/v1/tuf/1.root.json", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await http.get("/device/v1/tuf/timestamp.json")).headers["cache-control"] == "no-cache"
    absent = ("root.json", "0.root.json", "99999999999.root.json", "2.director.json", "1.releases-bin-1ff.json")
    for name in (*absent, "targets/releases/x.json", f"targets/releases/{'0' * 64}.x.json", "targets/../x"):
        assert (await http.get(f"/device/v1/tuf/{name}")).status_code == 404, name


async def test_a_file_that_tuf_does_not_list_is_not_public(live: Live) -> None:
    stored = await live.server.context.objects.put_bytes(b"weights")
    for name in ("releases", "policy"):
        answer = await live.server.http.get(f"/device/v1/tuf/targets/{name}/{stored.sha256}.model.onnx")
        assert answer.status_code == 404


async def test_a8_no_root_is_ever_deleted_and_no_row_changed(live: Live, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    for statement in (
        "delete from registry_tuf_metadata where role = 'root'",
        "delete from registry_tuf_metadata",
        "update registry_tuf_metadata set data = '' where role = 'snapshot'",
        "truncate registry_tuf_metadata",
    ):
        with pytest.raises(asyncpg.RaiseError, match="never changed, and no root"):
            await connection.execute(statement)
    await connection.close()
    assert (await live.server.http.get("/device/v1/tuf/1.root.json")).status_code == 200


async def test_the_worker_signs_again_before_expiry(live: Live, client: TufClient, monkeypatch: Any) -> None:
    keeper = TrustKeeper(live.server.context, look_s=0)
    assert await keeper.tick() == 0
    first = await client.refresh()
    shift_clock(monkeypatch, timedelta(hours=6, minutes=1))
    assert await keeper.tick() == 1
    assert await client.refresh() == first + 1
    before = await versions(live)
    shift_clock(monkeypatch, timedelta(days=61))
    assert await keeper.tick() == 1
    after = await versions(live)
    assert {role for role in after if after[role] == before[role]} == {"root", "targets"}
    assert await keeper.tick() == 0


async def test_g80_an_alarm_stands_before_anything_expires(live: Live, monkeypatch: Any) -> None:
    context, keys = live.server.context, live.server.context.keyring.folder
    (keys / "online" / "timestamp.pem").rename(keys / "away.pem")
    context.keyring._signers.clear()
    shift_clock(monkeypatch, timedelta(hours=49))
    await TrustKeeper(context, look_s=0).tick()
    found = {each["subject"]: each["because"] for each in (await live.server.ok("GET", "/trust"))["alarms"]}
    assert "expires in 23 h" in found["timestamp"]
    assert "timestamp.pem cannot be read" in found["signing"]
    entries = (await live.server.ok("GET", "/audit"))["items"]
    assert {e["subject"] for e in entries if e["action"] == "trust.alarm"} == {"timestamp", "signing"}
    (keys / "away.pem").rename(keys / "online" / "timestamp.pem")
    await TrustKeeper(context, look_s=0).tick()
    assert (await live.server.ok("GET", "/trust"))["alarms"] == []


async def test_g80_alarms_show_even_where_no_worker_runs(live: Live, monkeypatch: Any) -> None:
    shift_clock(monkeypatch, timedelta(days=336))
    found = {each["subject"]: each["because"] for each in (await live.server.ok("GET", "/trust"))["alarms"]}
    assert "expires in 29 days" in found["targets"]
    assert "devices install nothing new" in found["snapshot"]


@pytest.fixture
async def backup(database_url: str) -> AsyncIterator[Any]:
    """Return a function that copies the database, which nobody may be using, and gives the copy's URL."""
    source = database_url.partition("?")[0].rsplit("/", 1)[-1]
    made = f"{source}_backup"

    def renamed(name: str) -> str:
        return database_url.replace(f"/{source}", f"/{name}")

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(renamed("postgres"))
        await connection.execute(statement)
        await connection.close()

    async def copy() -> str:
        await run(f'create database "{made}" template "{source}"')
        return renamed(made)

    yield copy
    await run(f'drop database if exists "{made}" with (force)')


async def test_g82_a_restored_backup_signs_nothing_until_told_and_never_lower(
    database_url: str, backup: Any, tmp_path: Path
) -> None:
    home, root = tmp_path / "home", make_home(tmp_path / "home")
    async with serve(database_url, home) as live:
        await publish(live.server.context, {RELEASE: b"before"})
    await forget_tokens(database_url)
    old = await backup()
    async with serve(database_url, home) as live:
        client = TufClient(live.url, tmp_path / "client", root)
        for number in range(3):
            await publish(live.server.context, {OTHER: b"after %d" % number})
        newest = await client.refresh()
        assert newest == 5
        assert (await client.fetch(OTHER))[OTHER] == b"after 2"
    async with serve(old, home) as live:
        with pytest.raises(Refused, match="restored backup") as refused:
            await publish(live.server.context, {RELEASE: b"again"})
        assert refused.value.code == "database_restored"
        keeper = TrustKeeper(live.server.context, look_s=0)
        await keeper.tick()
        assert "resume-after-restore" in (await live.server.ok("GET", "/trust"))["alarms"][0]["because"]
        assert (await versions(live))["timestamp"] == 2
        async with live.server.context.database.transaction() as session:
            context = live.server.context
            version = await service.resume_after_restore(session, context.objects, context.keyring, "ada")
        assert version == newest + 1
        client = TufClient(live.url, tmp_path / "client", root)
        found = await client.fetch(RELEASE, OTHER)
        assert found == {RELEASE: b"before", OTHER: None}, "a client that saw more follows, as no version went down"
        assert await publish(live.server.context, {OTHER: b"again"}) == newest + 2
        await keeper.tick()
        assert (await live.server.ok("GET", "/trust"))["alarms"] == []


async def test_a_rolled_back_publish_skips_a_number_and_signs_none_twice(live: Live, client: TufClient) -> None:
    context = live.server.context
    first = await client.refresh()

    async def lose() -> None:
        async with context.database.transaction() as session:
            await service.publish_targets(session, context.objects, context.keyring, {RELEASE: b"lost"})
            await service.publish_targets(session, context.objects, context.keyring, {OTHER: b"lost"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await lose()
    assert await client.refresh() == first
    assert await publish(context, {RELEASE: b"kept"}) == first + 3
    assert (await client.fetch(RELEASE, OTHER)) == {RELEASE: b"kept", OTHER: None}


async def test_two_publishers_at_once_both_come_through(live: Live, client: TufClient) -> None:
    paths = [f"releases/{number:064x}.json" for number in range(8)]
    await asyncio.gather(*(publish(live.server.context, {path: path.encode()}) for path in paths))
    assert await client.fetch(*paths) == {path: path.encode() for path in paths}
    assert client.version("timestamp") == 9


async def test_g81_a_server_refuses_to_start_with_an_exposed_key(database_url: str, tmp_path: Path) -> None:
    make_home(tmp_path / "home")
    (tmp_path / "home" / "keys" / "online" / "releases.pem").chmod(0o640)
    with pytest.raises(Refused, match=r"releases.pem can be read or written by others \(mode 0640\)"):
        create_app(Settings(home=tmp_path / "home", database_url=database_url))


async def test_g81_and_with_a_key_of_another_user(database_url: str, tmp_path: Path) -> None:
    make_home(tmp_path / "home")
    path = tmp_path / "home" / "keys" / "online" / "gate.pem"
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 12345, -1)
    with pytest.raises(Refused, match="belongs to user 12345"):
        create_app(Settings(home=tmp_path / "home", database_url=database_url))


async def test_g79_killed_at_every_step_a_publish_leaves_a_consistent_repository(
    live: Live, client: TufClient, database_url: str, tmp_path: Path
) -> None:
    """A real process, SIGKILL before its n-th statement, fsync, rename or commit; a real client after each death."""
    publisher = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.dying_publisher", database_url, str(tmp_path / "home"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert publisher.stdin is not None
    assert publisher.stdout is not None
    seen = [await client.refresh()]
    answer, deaths, listed = "killed", 0, 0
    while answer == "killed":
        path = f"releases/{deaths:064x}.json"
        publisher.stdin.write(f"{deaths + 1} {path} text-{deaths}\n".encode())
        answer = (await asyncio.wait_for(publisher.stdout.readline(), 30)).decode().strip()
        found = (await client.fetch(path))[path]
        assert found in {None, f"text-{deaths}".encode()}
        listed += found is not None
        seen.append(client.version("timestamp"))
        deaths += answer == "killed"
    publisher.stdin.close()
    await publisher.wait()
    assert answer == "done 0"
    assert deaths > 20, "every statement, fsync, rename and the commit were died at"
    assert listed >= 2, "the death after the commit, and the publish that lived"
    assert seen == sorted(seen), "no version ever went down"
    paths = [f"releases/{number:064x}.json" for number in range(deaths + 1)]
    whole = await TufClient(live.url, tmp_path / "new client", client.root).fetch(*paths)
    assert sum(each is not None for each in whole.values()) == listed


async def test_ceremonies_can_read_the_newest_metadata(live: Live) -> None:
    for role in ("root", "targets", "releases"):
        answer = await live.server.call("GET", f"/trust/metadata/{role}", Role.VIEWER)
        assert answer.content == (await live.server.http.get(f"/device/v1/tuf/1.{role}.json")).content
    assert (await live.server.call("GET", "/trust/metadata/gardener")).status_code == 404


async def test_a_server_without_keys_says_what_to_do(database_url: str, tmp_path: Path) -> None:
    async with serve(database_url, tmp_path / "home") as live:
        assert (await live.server.ok("GET", "/trust"))["ready"] is False
        answer = await live.server.call("POST", "/trust/revocations", json={"keys": ["a" * 64], "reason": "stolen"})
        assert (answer.status_code, answer.json()["code"]) == (409, "trust_not_set_up")
        assert "fleetloop keys init" in answer.json()["detail"]
        assert (await live.server.http.get("/device/v1/tuf/timestamp.json")).status_code == 404
        assert await TrustKeeper(live.server.context, look_s=0).tick() == 0
