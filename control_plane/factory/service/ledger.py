"""What jobs cost, added up."""

from collections.abc import Sequence
from typing import Literal

from control_plane.factory.domain import JobCost, KindCost
from control_plane.factory.schemas import Ledger, LedgerLine
from control_plane.factory.store import jobs as store
from control_plane.kit.db import Session

By = Literal["kind", "run", "cluster", "subject"]


async def ledger(session: Session, by: By, run_id: str | None = None) -> Ledger:
    lines = [LedgerLine.model_validate(line, from_attributes=True) for line in await store.ledger(session, by, run_id)]
    return Ledger(by=by, lines=lines)


async def costs(
    session: Session,
    keys: Sequence[str],
    subjects: Sequence[str] = (),
    runs: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> list[JobCost]:
    """Return what jobs cost: those with these keys or subjects, and those of these kinds in these runs."""
    return [JobCost(**line) for line in await store.costs(session, keys, subjects, runs, kinds)]


async def readers(session: Session, made: Sequence[str], read_by: Sequence[str]) -> set[tuple[str, str]]:
    """Return (key, subject): which jobs on `made` wrote a file that a job on a subject of `read_by` read."""
    return {(line["key"], line["subject"]) for line in await store.readers(session, made, read_by)}


async def spent(session: Session, but: Sequence[str]) -> list[KindCost]:
    """Return by kind what all jobs cost but those with some keys, the dearest kind first."""
    return [KindCost(**line) for line in await store.spent(session, but)]
