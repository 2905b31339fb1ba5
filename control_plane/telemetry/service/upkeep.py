"""Keep the tables in shape: partitions to come and to go, coarser cells, expired sums."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.fleet import service as fleet
from control_plane.kit.db import Session
from control_plane.telemetry.domain import LATEST_ARRIVAL, halvings_needed
from control_plane.telemetry.store import partitions
from control_plane.telemetry.store import upkeep as store

DAYS_AT_START, DAYS_AHEAD = 3, 14
FINE_FOR = LATEST_ARRIVAL + timedelta(days=1)
"""Cells are merged once nothing can be added to them any more."""
ROLL_UP_BACK = timedelta(days=7)
"""How far back merging looks: a worker that was away for longer leaves old cells fine, which costs only their room."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is kept; windows and events never for less than the floor."""

    windows_days: int = 90
    windows_floor_days: int = 30
    cells_days: int = 400
    panel: int = 20_000


async def ensure_partitions(session: Session, now: datetime, days: int = DAYS_AT_START) -> None:
    """Make room for today and the next days; what comes without a partition goes to the default one."""
    await partitions.ensure(session, partitions.days_from(now, days))


async def maintain(session: Session, now: datetime, retention: Retention | None = None) -> bool:
    """Do what is due; False: somebody else is at it.

    Locks on the tables that telemetry comes in by are taken last, shortly before the commit.
    """
    rules = retention or Retention()
    if not await store.lock_upkeep(session):
        return False
    fine_since = (now - FINE_FOR).replace(minute=0, second=0, microsecond=0)
    await store.roll_up(session, fine_since - ROLL_UP_BACK, fine_since)
    await store.forget_cells(session, now - timedelta(days=rules.cells_days))
    await store.forget_devices(session, now - timedelta(days=rules.cells_days))
    await store.summarize_cells(session)
    devices = sum(line.devices for line in await fleet.summary(session))
    await store.halve_panel(session, halvings_needed(devices, rules.panel))
    await ensure_partitions(session, now, DAYS_AHEAD)
    kept_days = max(rules.windows_days, rules.windows_floor_days)
    await partitions.drop_before(session, now - timedelta(days=kept_days))
    return True
