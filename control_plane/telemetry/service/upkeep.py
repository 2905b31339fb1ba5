"""Keep the tables in shape: partitions to come."""

from datetime import UTC, datetime
from itertools import pairwise

from control_plane.kit.db import Session
from control_plane.telemetry.store import partitions as store


async def ensure_partitions(session: Session, now: datetime) -> None:
    """Make room for this month and the next two."""
    starts = [_month(now, ahead) for ahead in range(4)]
    await store.ensure_partitions(session, list(pairwise(starts)))


def _month(now: datetime, ahead: int) -> datetime:
    index = now.year * 12 + now.month - 1 + ahead
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)
