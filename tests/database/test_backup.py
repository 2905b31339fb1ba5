"""The drill: database and objects are gone, a backup is restored, and devices and TUF clients go on."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import asyncpg
import pytest

from control_plane.kit import backup as kept
from control_plane.kit.db import libpq_of
from control_plane.kit.errors import Conflict, Invalid, NotFound, Unavailable
from control_plane.kit.objects.opened import open_objects
from control_plane.kit.settings import Settings
from control_plane.migrations.upgrade import upgrade
from control_plane.registry import service
from tests.conftest import with_database
from tests.support import postgres_majors
from tests.support.cli import fleetloop
from tests.support.device import enrol
from tests.support.live import serve
from tests.support.rows import count
from tests.support.tuf import TufClient, forget_tokens, make_home, publish

RELEASE, OTHER = f"releases/{'a' * 64}.json", f"releases/{'b' * 64}.json"


@pytest.fixture
async def empty_url(postgres_url: str) -> AsyncIterator[str]:
    """A database without a table."""
    name = f"t_{uuid4().hex}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f'create database "{name}" template template0')
    yield with_database(postgres_url, name)
    await connection.execute(f'drop database "{name}" with (force)')
    await connection.close()


async def test_all_is_lost_and_restored_and_devices_go_on(database_url: str, empty_url: str, tmp_path: Path) -> None:
    home, root, folder = tmp_path / "home", make_home(tmp_path / "home"), tmp_path / "backups"
    objects = open_objects(Settings(home=home))
    async with serve(database_url, home) as live:
        device = await enrol(live.server)
        await device.check_in()
        await publish(live.server.context, {RELEASE: b"before"})
        stored = await live.server.context.objects.put_bytes(b"a recording")
        made = await kept.back_up(database_url, objects, folder)  # while it serves
        await publish(live.server.context, {OTHER: b"after"})
        client = TufClient(live.url, tmp_path / "client", root)
        newest = await client.refresh()
        audited = await count(live.server, "audit_entry")
    assert kept.check(folder, made) == []
    shutil.rmtree(home / "objects")
    await kept.restore(folder, made, empty_url, objects)
    await forget_tokens(empty_url)
    async with serve(empty_url, home) as live:
        context = live.server.context
        assert await context.objects.read(stored.sha256) == b"a recording"
        assert await count(live.server, "audit_entry") <= audited
        device.http = live.server.http
        answer = await device.check_in()
        assert answer is not None, "a device that was enrolled before is known again"
        async with context.database.transaction() as session:
            assert await service.resume_after_restore(session, context.objects, context.keyring, "ada") == newest + 1
        client = TufClient(live.url, tmp_path / "client", root)
        assert await client.fetch(RELEASE, OTHER) == {RELEASE: b"before", OTHER: None}
        assert await publish(context, {OTHER: b"again"}) == newest + 2


async def test_a_second_backup_copies_what_is_new_and_a_broken_one_is_none(
    database_url: str, empty_url: str, tmp_path: Path
) -> None:
    objects, folder = open_objects(Settings(home=tmp_path / "home")), tmp_path / "backups"
    await objects.start()
    first = await objects.put_bytes(b"one")
    one = await kept.back_up(database_url, objects, folder)
    copied = folder / "objects" / first.sha256[:2] / first.sha256
    begun = copied.stat().st_mtime_ns
    await objects.put_bytes(b"two")
    two = await kept.back_up(database_url, objects, folder)
    assert (one.objects, two.objects) == (1, 2)
    assert copied.stat().st_mtime_ns == begun, "it was there already"
    with pytest.raises(Unavailable, match="pg_dump fails"):
        await kept.back_up(with_database(database_url, "nothing"), objects, folder)
    assert [each.name for each in kept.list_backups(folder)] == [one.name, two.name]
    assert len(list(folder.glob("*.dump"))) == 2
    copied.write_bytes(b"0ne")
    (folder / "objects" / "00").mkdir(exist_ok=True)
    assert kept.check(folder, two) == [f"object {first.sha256} was changed"]
    copied.unlink()
    assert kept.check(folder, one) == [f"object {first.sha256} is missing"], "although another's object is there"
    with pytest.raises(Invalid, match="1 objects are missing"):
        await kept.restore(folder, one, empty_url, objects)
    assert [each.name for each in kept.list_backups(folder)] == [one.name, two.name]
    (folder / f"{one.name}.objects").write_text("")
    with pytest.raises(Invalid, match="not what its manifest says"):
        kept.check(folder, one)
    with pytest.raises(NotFound):
        kept.find_backup(folder, "20010101T000000Z")


async def test_nothing_is_restored_over_something_or_from_something_else(
    database_url: str, empty_url: str, tmp_path: Path
) -> None:
    objects, folder = open_objects(Settings(home=tmp_path / "home")), tmp_path / "backups"
    await objects.start()
    made = await kept.back_up(database_url, objects, folder)
    with pytest.raises(Conflict, match="not empty"):
        await kept.restore(folder, made, database_url, objects)
    dump = folder / f"{made.name}.dump"
    dump.write_bytes(dump.read_bytes()[:-9] + b"something")
    with pytest.raises(Invalid, match="not what its manifest says"):
        await kept.restore(folder, made, empty_url, objects)


def test_a_password_is_in_no_command_line() -> None:
    url, environment = libpq_of("postgresql+asyncpg://ada:s3cret@db.internal:5433/fleetloop?host=/run/pg")
    assert "s3cret" not in url
    assert url.startswith("postgresql://ada@db.internal:5433/fleetloop")
    assert environment == {"PGPASSWORD": "s3cret"}


def test_as_typed(database_url: str, empty_url: str, tmp_path: Path) -> None:
    home, folder = ["--home", str(tmp_path / "home")], str(tmp_path / "backups")
    rehearsed = fleetloop("backup", "create", folder, *home, "--database-url", database_url, "--dry-run")
    assert (rehearsed.status, (tmp_path / "backups").exists()) == (0, False)
    assert fleetloop("backup", "create", folder, *home, "--database-url", database_url).status == 0
    assert fleetloop("backup", "check", folder).status == 0
    restored = fleetloop("backup", "restore", folder, *home, "--database-url", empty_url)
    assert (restored.status, "resume-after-restore" in restored.err + restored.out) == (0, True)
    again = fleetloop("backup", "restore", folder, *home, "--database-url", empty_url)
    assert (again.status, "not empty" in again.err) == (1, True)
    missing = fleetloop("backup", "check", str(tmp_path / "none"))
    assert (missing.status, "holds no backup" in missing.err) == (1, True)


OTHERS = sorted(set(postgres_majors.installed()) - {18})


@pytest.mark.skipif(not OTHERS, reason="no other PostgreSQL than the embedded one is installed here")
async def test_a_backup_of_an_older_server_goes_back_into_one(tmp_path: Path) -> None:
    """Newer programs set what an older server does not know: `transaction_timeout` stopped a restore."""
    objects, folder, major = open_objects(Settings(home=tmp_path / "home")), tmp_path / "backups", OTHERS[0]
    with (
        TemporaryDirectory(prefix=f"fl-pg{major}-", ignore_cleanup_errors=True) as place,
        postgres_majors.running(postgres_majors.installed()[major], Path(place)) as url,
    ):
        connection = await asyncpg.connect(url)
        for name in ("old", "new"):
            await connection.execute(f"create database {name}_one")
        await connection.close()
        await asyncio.to_thread(upgrade, with_database(url, "old_one"))
        made = await kept.back_up(with_database(url, "old_one"), objects, folder)
        await kept.restore(folder, made, with_database(url, "new_one"), objects)
        restored = await asyncpg.connect(with_database(url, "new_one"))
        assert await restored.fetchval("select version_num from alembic_version") == made.revision
        await restored.close()
