"""`fleetloop objects sweep`: take away stored objects that nobody names any more."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane.cli.answers import Answer, One
from control_plane.cli.backups import Home, Url, installation
from control_plane.cli.command import DryRun, Verb
from control_plane.cli.later import Later
from control_plane.cli.output import View
from control_plane.kit.pages import Schema

if TYPE_CHECKING:
    from control_plane.kit import db, settings
    from control_plane.kit import sweep as sweeps
    from control_plane.kit.objects import opened
else:
    db = Later("control_plane.kit.db")
    opened = Later("control_plane.kit.objects.opened")
    settings = Later("control_plane.kit.settings")
    sweeps = Later("control_plane.kit.sweep")

objects = typer.Typer(no_args_is_help=True, help="Stored objects: take away those that nobody names any more.")
Days = Annotated[float, typer.Option("--older-than", help="days since an object was stored, or set aside", min=1)]
SWEPT = View("looked_at", ("looked_at", "set_aside", "brought_back", "deleted", "deleted_bytes"))


class SweptItem(Schema):
    """What a sweep did: objects looked at, set aside, brought back and deleted; bytes of the last."""

    looked_at: int
    set_aside: int
    brought_back: int
    deleted: int
    deleted_bytes: int


@Verb(objects)("sweep")
def sweep(older_than: Days = 14, home: Home = None, database_url: Url = None, dry_run: DryRun = False) -> Answer:
    """Set aside what is unused, delete what was set aside so long ago. Run it every week, and after a backup.

    Unused is what neither the database nor a manifest in use names: not even lineage or the audit trail does.

    Example: fleetloop objects sweep --older-than 30 --dry-run
    """
    with installation(home, database_url) as found:
        swept = asyncio.run(_sweep(found, timedelta(days=older_than), dry_run=dry_run))
    return One(SweptItem.model_validate(swept, from_attributes=True), SWEPT)


async def _sweep(found: "settings.Settings", older_than: timedelta, *, dry_run: bool) -> "sweeps.Swept":
    database, store = db.Database(found.database_url or "", pool_size=1), opened.open_objects(found)
    await store.start()
    try:
        return await sweeps.sweep(database, store, older_than, dry_run=dry_run)
    finally:
        await store.close()
        await database.close()
