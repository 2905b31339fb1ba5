"""The audit trail and the ledger."""

from typing import Annotated

from fastapi import Query
from markupsafe import Markup

from control_plane.audit import service as audit
from control_plane.factory import service as factory
from control_plane.factory.schemas import LedgerLine
from control_plane.kit import clock
from control_plane.kit.http import Cursor, Response
from control_plane.web.charts import Share, SharedBar, shared_bars
from control_plane.web.edge import PageCall, SeeCall, pages
from control_plane.web.render import energy, seconds

CHECK_S = 30.0
SHOWN_LINES = 50
records = pages()


@records.get("/audit")
async def show_audit(
    call: SeeCall, subject: Annotated[str | None, Query(max_length=200)] = None, after: Cursor = None
) -> Response:
    found = await audit.list_entries(call.session, subject=subject or None, after=after, limit=50)
    check, at = await call.desk.cache.get("audit", CHECK_S, lambda: _check(call))
    return call.show("audit.html", found=found, subject=subject or "", check=check, checked_at=at)


async def _check(call: PageCall) -> tuple[object, object]:
    return await audit.verify(call.session), clock.now()


@records.get("/ledger")
async def show_ledger(call: SeeCall) -> Response:
    kinds = (await factory.ledger(call.session, "kind")).lines[:SHOWN_LINES]
    runs = (await factory.ledger(call.session, "run")).lines
    return call.show(
        "ledger.html",
        kinds=kinds,
        runs=runs[:SHOWN_LINES],
        more_runs=max(len(runs) - SHOWN_LINES, 0),
        clusters=await factory.list_clusters(call.session),
        usd=sum(line.usd for line in kinds),
        wall=sum(line.wall_s for line in kinds),
        joules=sum(line.energy_j for line in kinds),
        estimate=any(line.energy_is_estimate for line in kinds),
        picture=_picture(kinds),
    )


def _picture(lines: list[LedgerLine]) -> Markup | None:
    """Draw the wall time of each kind of job."""
    bars = [
        SharedBar(
            line.name,
            [Share("wall time", line.wall_s, "compute")],
            f"{seconds(line.wall_s)}, {energy(line.energy_j)}{' est.' if line.energy_is_estimate else ''}",
        )
        for line in lines[:12]
    ]
    return shared_bars("Wall time by kind of job", bars) if bars else None
