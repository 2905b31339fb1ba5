"""Which stored objects does nobody name any more? They are set aside, and deleted at a later sweep.

An object is in use if its digest stands anywhere in the database, or in a JSON object that is in use itself (a
manifest). So nothing that lineage, audit, a job or a release names is ever taken; what is left are uploads that nobody
finished and outputs of attempts that were lost.

Whoever puts bytes names them moments later. Objects are therefore swept only when they are old, and putting makes them
new again. What is set aside in the very moment in which somebody names it is brought back by the next sweep.
"""

import re
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

from control_plane.kit import clock
from control_plane.kit.db import Database, Session, copy_rows, execute, rows
from control_plane.kit.errors import Invalid
from control_plane.kit.objects import Listed, ObjectStore

LEAST = timedelta(hours=24)
"""An upload by URL may take so long; S3 keeps parts for a week, but they are no objects yet."""
DIGEST = re.compile(rb"[0-9a-f]{64}")
NOT_READ = ("telemetry_window", "telemetry_event", "telemetry_cell", "alembic_version")
"""Large, and name only contents of versions and recordings, which other tables name too."""

COLUMNS = """
    select c.table_name, c.column_name, c.data_type from information_schema.columns c
    join pg_class r on r.relname = c.table_name and r.relnamespace = 'public'::regnamespace
    where c.table_schema = 'public' and r.relkind in ('r', 'p') and not r.relispartition
      and c.data_type in ('text', 'character varying', 'json', 'jsonb', 'bytea', 'ARRAY') order by 1, 2"""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many objects: `looked_at` in all, `set_aside` now, `brought_back`, `deleted`; bytes of the last."""

    looked_at: int
    set_aside: int
    brought_back: int
    deleted: int
    deleted_bytes: int


async def sweep(database: Database, objects: ObjectStore, older_than: timedelta, *, dry_run: bool = False) -> Swept:
    """Set aside what is unused and older, delete what was set aside so long ago and is unused still.

    Raises:
        Invalid: `older_than` is shorter than an upload may take.
    """
    if older_than < LEAST:
        raise Invalid(f"--older-than must be at least {LEAST.total_seconds() / 3600:g} h: an upload may take so long")
    before = clock.now() - older_than
    aside = [each async for each in objects.list_aside()]
    listed = [each async for each in objects.list_objects()]
    old = [each for each in listed if each.modified_at < before]
    async with database.transaction() as session:
        used = await _used(session, objects, [*aside, *old], listed)
    back = [each for each in aside if each.sha256 in used]
    gone = [each for each in aside if each.sha256 not in used and each.modified_at < before]
    unused = [each for each in old if each.sha256 not in used]
    if not dry_run:
        for each in back:
            await objects.bring_back(each.sha256)
        for each in gone:
            await objects.forget(each.sha256)
        for each in unused:
            await objects.set_aside(each.sha256)
    return Swept(len(listed), len(unused), len(back), len(gone), sum(each.size for each in gone))


async def _used(session: Session, objects: ObjectStore, asked: list[Listed], listed: list[Listed]) -> set[str]:
    """Return which of the digests asked for are in use."""
    wanted = {each.sha256 for each in asked}
    if not wanted:
        return set()
    named = await _named(session, [each.sha256 for each in [*listed, *asked]])
    return (named | await _named_by_manifests(objects, named, listed, wanted)) & wanted


async def _named(session: Session, digests: Iterable[str]) -> set[str]:
    """Return which digests stand anywhere in the database."""
    await execute(session, "create temporary table swept (sha256 text primary key) on commit drop")
    await copy_rows(session, "swept", ["sha256"], [[sha256] for sha256 in sorted(set(digests))])
    found = set[str]()
    for table, columns in (await _columns(session)).items():
        said = " || ' ' || ".join(f"coalesce({each}, '')" for each in columns)
        read = f'select regexp_matches({said}, $$[0-9a-f]{{64}}$$, $$g$$) as digest from "{table}"'  # noqa: S608 - our tables
        query = f"select distinct sha256 from ({read}) as said join swept on sha256 = said.digest[1]"  # noqa: S608 - `read` is ours
        found |= {each["sha256"] for each in await rows(session, query)}
    return found


async def _columns(session: Session) -> dict[str, list[str]]:
    """Return of each table how to read what may hold a digest: bytes are read as letters and as numbers."""
    found = dict[str, list[str]]()
    for each in await rows(session, COLUMNS):
        if each["table_name"] in NOT_READ:
            continue
        name = f'"{each["column_name"]}"'
        is_bytes = each["data_type"] == "bytea"
        said = [f"encode({name}, 'escape')", f"encode({name}, 'hex')"] if is_bytes else [f"{name}::text"]
        found.setdefault(each["table_name"], []).extend(said)
    return found


async def _named_by_manifests(
    objects: ObjectStore, named: set[str], listed: list[Listed], wanted: set[str]
) -> set[str]:
    """Return what JSON objects in use name, and what those name, until nothing new is found."""
    there = {each.sha256 for each in listed}
    found, ahead = set(named), named & there
    while ahead and not wanted <= found:
        told = set[str]()
        for sha256 in ahead:
            told |= await _names_in(objects, sha256)
        ahead = (told & there) - found
        found |= told
    return found


async def _names_in(objects: ObjectStore, sha256: str) -> set[str]:
    """Return the digests in an object that is JSON or lines of it, however long; nothing for any other."""
    found, rest = set[str](), b""
    async with aclosing(objects.open(sha256)) as chunks:
        async for chunk in chunks:
            if not rest and chunk[:1] not in (b"{", b"["):
                break
            found |= {each.decode() for each in DIGEST.findall(rest + chunk)}
            rest = (rest + chunk)[-63:]  # a digest may lie across two chunks
    return found
