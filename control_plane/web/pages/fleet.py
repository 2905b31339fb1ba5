"""Devices: where they are, what they run, what they wait for."""

from collections import defaultdict

from markupsafe import Markup

from control_plane.fleet import service
from control_plane.fleet.schemas import FleetLine
from control_plane.kit.http import Cursor, Response
from control_plane.rollout import service as rollout
from control_plane.rollout.schemas import DeploymentItem
from control_plane.telemetry import service as telemetry
from control_plane.web.charts import Share, SharedBar, shared_bars
from control_plane.web.edge import PageCall, SeeCall, pages
from control_plane.web.names import Names, load_names

SHOWN_DEVICES = 200
SHOWN_ROLLOUTS = 8
fleet = pages()


@fleet.get("/fleet")
async def show_fleet(call: SeeCall, site: str | None = None, after: Cursor = None) -> Response:
    names = await load_names(call)
    lines = await service.summary(call.session)
    devices = await service.list_devices(call.session, site=site or None, after=after, limit=SHOWN_DEVICES)
    return call.show(
        "fleet.html",
        names=names,
        devices=devices,
        picture=_picture(names, lines),
        colours=_legend(names, lines),
        sites=sorted({line.site for line in lines}),
        site=site or "",
        total=sum(line.devices for line in lines),
    )


def _picture(names: Names, lines: list[FleetLine]) -> Markup:
    by_site: dict[str, list[FleetLine]] = defaultdict(list)
    for line in lines:
        by_site[line.site].append(line)
    bars = [
        SharedBar(site, _shares(names, held), f"{sum(line.devices for line in held)}")
        for site, held in sorted(by_site.items())[:40]
    ]
    return shared_bars("Devices by site and running version", bars)


def _shares(names: Names, lines: list[FleetLine]) -> list[Share]:
    held: dict[str | None, int] = defaultdict(int)
    for line in lines:
        held[line.active_content] += line.devices
    ordered = sorted(held.items(), key=lambda item: names.label(item[0]))
    return [Share(names.label(d), n, names.series(d), str(n)) for d, n in ordered]


def _legend(names: Names, lines: list[FleetLine]) -> list[tuple[str, str]]:
    found = {(names.label(line.active_content), names.series(line.active_content)) for line in lines}
    return sorted(found)


@fleet.get("/fleet/{device_id}")
async def show_device(device_id: str, call: SeeCall) -> Response:
    device = await service.get_device(call.session, device_id)
    classes = {c.name: c for c in await service.list_classes(call.session)}
    events = (await telemetry.list_events(call.session, limit=500)).items
    return call.show(
        "device.html",
        names=await load_names(call),
        device=device,
        device_class=classes.get(device.device_class),
        history=await _history(call, device_id),
        explanation=await _explained(call, device_id),
        events=[event for event in events if event.device_id == device_id][:20],
        looked_at=len(events),
    )


async def _explained(call: PageCall, device_id: str) -> list[str]:
    board: rollout.Board = await call.request.app.state.board.fresh(call.session, call.context.objects)
    return (await rollout.explain_device(call.session, board, device_id)).lines


async def _history(call: PageCall, device_id: str) -> list[DeploymentItem]:
    """Return the device's deployments in the newest rollouts."""
    return await rollout.device_history(call.session, device_id, SHOWN_ROLLOUTS)
