"""Wide reads by a real streaming replica: never older than what was committed, and by the primary where it is not."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from control_plane.kit import replica
from control_plane.kit.db import Database
from control_plane.kit.errors import Unavailable
from control_plane.kit.metrics import REGISTRY
from control_plane.kit.replica import Reader
from control_plane.kit.roles import Role
from control_plane.migrations.upgrade import upgrade
from tests.browser.seed import seed
from tests.conftest import with_database
from tests.support.browsing import Parts, signed_in
from tests.support.device import enrol
from tests.support.postgres_majors import Cluster, installed, replicating, running
from tests.support.routes import ways
from tests.support.server import Server, open_server


@dataclass
class Pair:
    primary: str
    replica: Cluster
    url: str
    read: str


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    programs = installed()[18]
    with tempfile.TemporaryDirectory(prefix="fl-pair-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        root.chmod(0o755)
        with running(programs, _made(root / "a")) as url, replicating(programs, root / "b", url) as copy:
            yield Pair(url, copy, with_database(url, "fleet"), with_database(copy.url, "fleet"))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture
async def paired(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(replica, "REST_S", 0.0)
    monkeypatch.setattr(replica, "WAIT_S", 2.0)  # a busy machine is not what is tried here
    await _ask(pair.primary, "drop database if exists fleet with (force)")
    await _ask(pair.primary, "create database fleet")
    await asyncio.to_thread(upgrade, pair.url)
    async with open_server(pair.url, tmp_path, database_replica_url=pair.read) as server:
        await server.ok("PUT", "/device-classes/cart", json={"title": "Cart"})
        yield server


async def _ask(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def reads(database: str) -> float:
    return REGISTRY.get_sample_value("fleetloop_wide_reads_total", {"database": database}) or 0.0


async def serials(server: Server) -> set[str]:
    return {each["serial"] for each in (await server.ok("GET", "/devices?limit=500"))["items"]}


async def caught_up(pair: Pair) -> None:
    """Wait until the replica has what the primary had: after a start it takes some seconds to ask for it."""
    at = await _ask(pair.primary, "select pg_current_wal_flush_lsn()::text")
    for _ in range(300):
        if await _ask(pair.read, f"select pg_last_wal_replay_lsn() >= '{at}'::pg_lsn"):
            return
        await asyncio.sleep(0.1)
    pytest.fail("the replica does not follow the primary")


async def read_once(server: Server, database: str, expected: set[str]) -> None:
    """Read the devices, and see which database answered."""
    before = reads(database)
    assert await serials(server) == expected
    assert reads(database) == before + 1


async def test_whoever_wrote_reads_what_was_written(paired: Server) -> None:
    before, enrolled = reads("replica"), set[str]()
    for number in range(30):
        await enrol(paired, f"sn-{number}")
        enrolled.add(f"sn-{number}")
        assert await serials(paired) == enrolled
    assert reads("replica") - before >= 25  # on a busy machine a few may have gone to the primary


async def test_a_replica_that_stands_still_is_not_read(paired: Server, pair: Pair) -> None:
    await enrol(paired, "early")
    assert await serials(paired) == {"early"}
    await _ask(pair.read, "select pg_wal_replay_pause()")
    try:
        await enrol(paired, "late")
        await read_once(paired, "primary", {"early", "late"})
    finally:
        await _ask(pair.read, "select pg_wal_replay_resume()")
    await caught_up(pair)
    await read_once(paired, "replica", {"early", "late"})


async def test_without_its_replica_everything_is_read_on(paired: Server, pair: Pair) -> None:
    await enrol(paired, "early")
    assert await serials(paired) == {"early"}
    pair.replica.stop()
    try:
        await enrol(paired, "late")
        await read_once(paired, "primary", {"early", "late"})
    finally:
        pair.replica.start()
    await caught_up(pair)
    await read_once(paired, "replica", {"early", "late"})


async def test_a_replica_that_failed_is_left_alone_for_a_while(
    paired: Server, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "REST_S", 600.0)
    pair.replica.stop()
    try:
        assert await serials(paired) == set()
    finally:
        pair.replica.start()
    await caught_up(pair)
    before = reads("replica"), reads("primary")
    assert await serials(paired) == set()
    assert (reads("replica"), reads("primary")) == (before[0], before[1] + 1)


async def test_more_readers_than_connections_do_not_wait_for_each_other(paired: Server) -> None:
    """Each holds one of the primary's; if it needed a second one to ask for the replica, all would be refused."""
    await enrol(paired, "one")
    before = reads("replica")
    async with asyncio.timeout(9):
        found = await asyncio.gather(*(serials(paired) for _ in range(3 * paired.context.database.connections_most)))
    assert found == [{"one"}] * len(found)
    assert reads("replica") > before


async def test_a_replica_that_hangs_is_not_waited_for(paired: Server, pair: Pair, monkeypatch: Any) -> None:
    monkeypatch.setattr(replica, "REST_S", 600.0)
    await enrol(paired, "one")
    assert await serials(paired) == {"one"}  # a connection to it is open
    with pair.replica.hanging():
        begun = time.monotonic()
        await read_once(paired, "primary", {"one"})
        assert time.monotonic() - begun < replica.ANSWER_S + 3  # SQLAlchemy waits 2 s for such a connection to close
        await read_once(paired, "primary", {"one"})


async def test_a_replica_that_does_not_let_us_in_is_not_read(pair: Pair, paired: Server) -> None:
    """Starting up, another password, no such database: what the driver itself raises when it connects."""
    other = Database(with_database(pair.replica.url, "nowhere"), pooled=True)
    async with (
        paired.context.database.transaction() as held,
        Reader(paired.context.database, other).session(held) as it,
    ):
        assert it is held
    await other.close()


async def test_a_read_that_the_replica_ends_is_said_to_be_tried_again(pair: Pair, paired: Server) -> None:
    """What the primary changed waits in the replica for who reads it, here not at all."""
    await _ask(pair.read, "alter system set max_standby_streaming_delay = 0")
    await _ask(pair.read, "select pg_reload_conf()")
    with pytest.raises(Unavailable, match="try again"):
        await _read_across_a_change(paired, pair)
    await caught_up(pair)
    await read_once(paired, "replica", set())


async def _read_across_a_change(server: Server, pair: Pair) -> None:
    database, reader = server.context.database, server.context.reader
    async with database.transaction() as held, reader.session(held) as it:
        assert it is not held
        await it.execute(text("select count(*) from fleet_device"))
        await _ask(pair.url, "alter table fleet_device add column replayed int")
        await caught_up(pair)
        await it.execute(text("select count(*) from fleet_device"))


async def test_a_server_that_takes_writes_is_no_replica(pair: Pair, paired: Server) -> None:
    other = Database(pair.url, pooled=True)
    async with (
        paired.context.database.transaction() as held,
        Reader(paired.context.database, other).session(held) as it,
    ):
        assert it is held
    await other.close()


async def test_no_page_or_wide_route_writes(paired: Server) -> None:
    """Every page that links lead to, and every GET of the API: the replica refuses to write, and that would be seen."""
    await seed(paired.context, devices=6, history=2, canary=3)
    before = reads("replica")
    async with aclosing(await signed_in(paired, Role.ADMIN)) as person:
        queue = [way.path for way in ways(paired.app) if way.is_page and way.method == "GET" and "{" not in way.path]
        queue = [path for path in queue if path not in ("/live", "/login/oidc")]
        seen = set(queue)
        while queue:
            path = queue.pop()
            answer = await person.get(path)
            assert answer.status_code < 500, (path, answer.text)
            page = answer.headers.get("content-type", "").startswith("text/html")
            for link in Parts(answer.text).links if page else ():
                shape = link.partition("#")[0]
                if shape.startswith("/") and shape not in seen and len(seen) < 400:
                    seen.add(shape)
                    queue.append(shape)
    for way in ways(paired.app):
        if way.path.startswith("/api/v1") and way.method == "GET":
            answer = await paired.call("GET", way.filled({}).removeprefix("/api/v1"))
            assert answer.status_code < 500, (way.name, answer.text)
    assert len(seen) > 60
    assert reads("replica") - before > len(seen) / 2
