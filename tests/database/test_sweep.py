"""Objects that nobody names are taken away; whatever anything names stays."""

import json
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from control_plane.kit.db import Database, execute
from control_plane.kit.errors import Invalid
from control_plane.kit.objects import LocalStore, object_key
from control_plane.kit.sweep import Swept, sweep
from tests.support.cli import fleetloop
from tests.support.registry import register
from tests.support.server import Server

DAY = timedelta(days=1)


class Place:
    """A store whose objects can be made old, beside a database."""

    def __init__(self, root: Path, database: Database) -> None:
        self.root, self.database = root, database
        self.store = LocalStore(root, b"s" * 32)

    async def old(self, data: bytes) -> str:
        stored = await self.store.put_bytes(data)
        self.age(self.root / object_key(stored.sha256))
        return stored.sha256

    def age(self, path: Path) -> None:
        past = time.time() - 3 * 86400
        os.utime(path, (past, past))

    async def name(self, statement: str, **values: object) -> None:
        async with self.database.transaction() as session:
            await execute(session, statement, **values)

    async def sweep(self, *, dry_run: bool = False) -> Swept:
        return await sweep(self.database, self.store, DAY, dry_run=dry_run)


@pytest.fixture
async def place(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    database = Database(database_url, pool_size=1)
    made = Place(tmp_path / "objects", database)
    await made.store.start()
    yield made
    await database.close()


async def test_what_nobody_names_is_set_aside_then_deleted(place: Place) -> None:
    lost, fresh = await place.old(b"an output of a lost attempt"), (await place.store.put_bytes(b"just now")).sha256
    assert await place.sweep(dry_run=True) == Swept(2, 1, 0, 0, 0)
    assert await place.store.exists(lost)
    assert await place.sweep() == Swept(2, 1, 0, 0, 0)
    assert (await place.store.exists(lost), await place.store.exists(fresh)) == (False, True)
    assert await place.sweep() == Swept(1, 0, 0, 0, 0), "what was set aside waits as long again"
    place.age(place.root / "unused" / object_key(lost))
    assert await place.sweep() == Swept(1, 0, 0, 1, len(b"an output of a lost attempt"))
    assert [each async for each in place.store.list_aside()] == []


async def test_whatever_names_an_object_keeps_it(place: Place) -> None:
    """As text, in JSON, in lists, in signed bytes, as a digest in bytes, and by way of a manifest of manifests."""
    await place.name("create table scratch (a text, b jsonb, c text[], d bytea, e bytea)")
    plain, nested, listed, signed, raw = [await place.old(f"object {number}".encode()) for number in range(5)]
    frames = await place.old(b"PAR1 frames")
    inner = await place.old(json.dumps({"frames": frames}).encode())
    outer = await place.old(json.dumps({"parts": [inner]}).encode())
    lost = await place.old(b"PAR1 other frames")
    lost_manifest = await place.old(json.dumps({"frames": lost}).encode())
    await place.name(
        "insert into scratch values (:a, cast(:b as jsonb), array[cast(:c as text)], cast(:d as bytea), :e)",
        a=f"sha256:{plain}",
        b=json.dumps({"outputs": {"x": {"sha256": nested}}, "manifest": outer}),
        c=listed,
        d=json.dumps({"subject": [{"digest": {"sha256": signed}}]}).encode(),
        e=bytes.fromhex(raw),
    )
    assert await place.sweep() == Swept(10, 2, 0, 0, 0)
    assert [each.sha256 async for each in place.store.list_aside()] == sorted([lost, lost_manifest])


async def test_a_manifest_of_any_length_keeps_what_it_names(place: Place) -> None:
    await place.name("create table scratch (a text)")
    frames = await place.old(b"PAR1 frames")
    filler = " " * ((1 << 20) - 40)  # so that the digest lies across two chunks
    manifest = await place.old(f'{{"a":"{filler}","frames":"{frames}"}}'.encode())
    await place.name("insert into scratch values (:a)", a=manifest)
    assert await place.sweep() == Swept(2, 0, 0, 0, 0)


async def test_what_is_named_after_it_was_set_aside_is_brought_back(place: Place) -> None:
    taken = await place.old(b"named too late")
    await place.sweep()
    await place.name("create table scratch (a text)")
    await place.name("insert into scratch values (:a)", a=taken)
    place.age(place.root / "unused" / object_key(taken))
    assert await place.sweep() == Swept(0, 0, 1, 0, 0)
    assert await place.store.read(taken) == b"named too late"


async def test_no_upload_is_swept_under_its_owner(place: Place) -> None:
    with pytest.raises(Invalid, match="at least 24 h"):
        await sweep(place.database, place.store, timedelta(hours=23))


async def test_a_version_keeps_its_files(server: Server) -> None:
    await register(server, 2.0)
    objects = server.context.objects
    assert isinstance(objects, LocalStore)
    place = Place(objects._root, server.context.database)
    for path in (place.root / "sha256").glob("*/*/*"):
        place.age(path)
    lost = await place.old(b"lost")
    assert await place.sweep() == Swept(len([each async for each in objects.list_objects()]) + 1, 1, 0, 0, 0)
    assert [each.sha256 async for each in objects.list_aside()] == [lost]


def test_as_typed(database_url: str, tmp_path: Path) -> None:
    home = ["--home", str(tmp_path / "home"), "--database-url", database_url]
    swept = fleetloop("objects", "sweep", *home, "-o", "json")
    assert (swept.status, json.loads(swept.out)["set_aside"]) == (0, 0), swept.err
    short = fleetloop("objects", "sweep", "--older-than", "0.5", *home)
    assert (short.status, "older-than" in short.err) == (2, True)
