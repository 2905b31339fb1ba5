"""The ledger of what everything cost."""

from markupsafe import Markup

from control_plane.factory import service as factory
from control_plane.factory.schemas import LedgerLine
from control_plane.kit.http import Response
from control_plane.rollout import service as rollout
from control_plane.web.charts import Share, SharedBar, shared_bars
from control_plane.web.edge import SeeCall, pages
from control_plane.web.factory import MeteredCluster, metered_of
from control_plane.web.names import load_names
from control_plane.web.render import energy, seconds

SHOWN_LINES = 50
BILLS_S, METERS_S = 30.0, 15.0
SHOWN_CLUSTERS = 8
records = pages()


@records.get("/ledger")
async def show_ledger(call: SeeCall) -> Response:
    kinds = (await factory.ledger(call.session, "kind")).lines[:SHOWN_LINES]
    runs = (await factory.ledger(call.session, "run")).lines
    found = await call.desk.cache.get("version-ledger", BILLS_S, lambda: rollout.version_ledger(call.session))
    clusters = await factory.list_clusters(call.session)
    measured = [each.name for each in clusters if each.exporters][:SHOWN_CLUSTERS]
    return call.show(
        "ledger.html",
        metered=[await _metered(call, name) for name in measured],
        names=await load_names(call),
        bills=found.versions[:SHOWN_LINES],
        models=found.models,
        other=found.of_no_version,
        kinds=kinds,
        runs=runs[:SHOWN_LINES],
        more_runs=max(len(runs) - SHOWN_LINES, 0),
        clusters=clusters,
        usd=sum(line.usd for line in kinds),
        wall=sum(line.wall_s for line in kinds),
        joules=sum(line.energy_j for line in kinds),
        estimate=any(line.energy_is_estimate for line in kinds),
        picture=_picture(kinds),
    )


async def _metered(call: SeeCall, name: str) -> MeteredCluster:
    """Return a cluster's last hour; kept a while, for many look at this page and an hour changes slowly."""

    async def ask() -> MeteredCluster:
        return metered_of(await factory.cluster_meters(call.session, name, 1.0))

    return await call.desk.cache.get(f"meters {name}", METERS_S, ask)


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
