"""`fleetloop backup`: back up an installation's database and objects, look at backups, restore one."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from control_plane.cli.answers import Answer, Items, One
from control_plane.cli.command import DryRun, Verb
from control_plane.cli.later import Later
from control_plane.cli.output import View, errors, say
from control_plane.kit.errors import Invalid
from control_plane.kit.pages import Schema

if TYPE_CHECKING:
    from control_plane.kit import backup as kept
    from control_plane.kit import embedded, settings
    from control_plane.kit.objects import opened
else:
    kept = Later("control_plane.kit.backup")
    embedded = Later("control_plane.kit.embedded")
    opened = Later("control_plane.kit.objects.opened")
    settings = Later("control_plane.kit.settings")

backup = typer.Typer(no_args_is_help=True, help="Back up the database and all objects into a folder; restore them.")
Folder = Annotated[Path, typer.Argument(help="folder of backups; objects that it has are not copied again")]
Name = Annotated[str | None, typer.Option("--name", help="which backup; the newest if unset")]
Home = Annotated[Path | None, typer.Option(help="folder of the installation; FLEETLOOP_HOME if unset")]
Url = Annotated[str | None, typer.Option("--database-url", help="its database; FLEETLOOP_DATABASE_URL if unset")]
BACKUP = View("name", ("name", "made_at", "version", "revision", "dump_bytes", "objects"))


class BackupItem(Schema):
    """A backup, as its manifest tells it; `revision` is that of the database's tables."""

    name: str
    made_at: str
    version: str
    revision: str
    dump_bytes: int
    objects: int
    names: int


def _item(found: "kept.Backup") -> BackupItem:
    return BackupItem.model_validate(found, from_attributes=True)


@contextmanager
def installation(home: Path | None, database_url: str | None) -> Iterator["settings.Settings"]:
    """Give an installation's settings; the embedded database of one that is down runs meanwhile."""
    found = settings.Settings(home=home) if home else settings.Settings()
    if database_url or found.direct_url:
        yield found.model_copy(update={"database_url": database_url or found.direct_url})
        return
    if not (found.home / "pg").exists():
        raise Invalid("say which database: --database-url, FLEETLOOP_DATABASE_URL, or the --home of 'fleetloop up'")
    server = embedded.EmbeddedPostgres(found.home / "pg")
    try:
        yield found.model_copy(update={"database_url": server.url})
    finally:
        server.stop()


@contextmanager
def _progress() -> Iterator["kept.Tell"]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, number: bar.update(task, description=f"{what} {number or ''}")


@Verb(backup)("create")
def create(folder: Folder, home: Home = None, database_url: Url = None, dry_run: DryRun = False) -> Answer:
    """Back up while everything runs. Private keys are not in it: keep those apart, and the offline ones offline.

    Example: fleetloop backup create /mnt/backup/fleetloop
    """
    with installation(home, database_url) as found, _progress() as tell:
        if dry_run:
            say(f"would back up the database and the objects of {found.object_store or found.home} into {folder}")
            return Items(map(_item, kept.list_backups(folder)), BACKUP)
        made = asyncio.run(kept.back_up(found.database_url or "", opened.open_objects(found), folder, tell))
    return One(_item(made), BACKUP)


@Verb(backup)("list")
def list_backups(folder: Folder) -> Answer:
    """List the backups of a folder, oldest first.

    Example: fleetloop backup list /mnt/backup/fleetloop
    """
    return Items(map(_item, kept.list_backups(folder)), BACKUP)


@Verb(backup)("check")
def check(folder: Folder, name: Name = None) -> Answer:
    """Read a whole backup again and compare digests. Exit status 1: it is not what it was.

    Example: fleetloop backup check /mnt/backup/fleetloop
    """
    found = kept.find_backup(folder, name)
    with _progress() as tell:
        wrong = kept.check(folder, found, tell)
    for line in wrong:
        say(line)
    return One(_item(found), BACKUP, status=1 if wrong else 0)


@Verb(backup)("restore")
def restore(
    folder: Folder, name: Name = None, home: Home = None, database_url: Url = None, dry_run: DryRun = False
) -> Answer:
    """Restore into an empty database and the configured object store; may be done again if it was cut off.

    Example: fleetloop backup restore /mnt/backup/fleetloop --database-url postgresql://fleetloop@db/fleetloop
    """
    found = kept.find_backup(folder, name)
    with installation(home, database_url) as installed, _progress() as tell:
        where = f"{installed.object_store or installed.home / 'objects'} and the database"
        if dry_run:
            say(f"would restore {found.name} into {where}")
            return One(_item(found), BACKUP)
        work = kept.restore(folder, found, installed.database_url or "", opened.open_objects(installed), tell)
        asyncio.run(work)
    say(f"{found.name} is restored into {where}. Devices may have seen newer releases: start the server, then run")
    say("  fleetloop keys resume-after-restore")
    return One(_item(found), BACKUP)
