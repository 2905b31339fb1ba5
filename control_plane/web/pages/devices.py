"""One device: what it runs and why, how far its update is, how it does, what happened to it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from markupsafe import Markup

from control_plane.fleet import service
from control_plane.fleet.domain import SILENT_AFTER
from control_plane.fleet.schemas import DeviceItem
from control_plane.kit import clock
from control_plane.kit.errors import NotFound
from control_plane.kit.http import Response
from control_plane.kit.roles import Role
from control_plane.rollout import service as rollout
from control_plane.telemetry import service as telemetry
from control_plane.telemetry.domain import RecordingState
from control_plane.telemetry.schemas import DeviceSeries, FieldEventItem
from control_plane.web import measured
from control_plane.web.charts import machine
from control_plane.web.edge import SEE_OTHER, PageCall, SeeCall, pages
from control_plane.web.machine import ENDS, ROAD, STEPS, ways_on
from control_plane.web.names import incident_kinds, load_names

SHOWN_ROLLOUTS, SHOWN_EVENTS, SHOWN_RECORDINGS = 8, 20, 12
SERIES_S = 5.0
OPEN_S = 900
FOXGLOVE = "https://app.foxglove.dev/~/view?ds=remote-file&ds.url="
FOXGLOVE_DESKTOP = "foxglove://open?ds=remote-file&ds.url="
HOURS = 24
Hours = Annotated[int, Query(ge=1, le=168, description="how many of the last hours")]
devices = pages()


@devices.get("/fleet/{device_id}")
async def show_device(device_id: str, call: SeeCall, hours: Hours | None = None) -> Response:
    device = await service.get_device(call.session, device_id)
    classes = {c.name: c for c in await service.list_classes(call.session)}
    events = (await telemetry.list_events(call.session, device=device_id, limit=SHOWN_EVENTS)).items
    hours = hours or measured.first_span(device.enrolled_at, clock.now())
    series, names = await _series(call, device_id, hours), await load_names(call)
    figures, marks = measured.figures_of(series, incident_kinds(names)), measured.marks_of(series, names)
    return call.show(
        "device.html",
        names=names,
        device=device,
        device_class=classes.get(device.device_class),
        silent=is_silent(device, clock.now()),
        history=await rollout.device_history(call.session, device_id, SHOWN_ROLLOUTS),
        explanation=await _explained(call, device_id),
        road=road_of(device),
        on=ways_on(_phase(device)),
        gauges=gauges_of(device.platform),
        hours=hours,
        choices=measured.SPANS,
        figures=[(figure, measured.picture_of(figure, series, marks)) for figure in figures],
        table=measured.table_of(figures, series),
        events=events,
        recorded=await _recorded(call, events),
        recordings=await telemetry.recordings_of(call.session, device_id, SHOWN_RECORDINGS),
    )


def is_silent(device: DeviceItem, now: datetime) -> bool:
    return device.state == "active" and (device.last_seen_at or device.enrolled_at) < now - SILENT_AFTER


async def _explained(call: PageCall, device_id: str) -> list[str]:
    board: rollout.Board = await call.request.app.state.board.fresh(call.session, call.context.objects)
    return (await rollout.explain_device(call.session, board, device_id)).lines


async def _recorded(call: PageCall, events: Sequence[FieldEventItem]) -> dict[str, str]:
    return await telemetry.recorded(call.session, [event.event_id for event in events])


def _phase(device: DeviceItem) -> str:
    return str((device.deployment or {}).get("phase", "idle"))


def road_of(device: DeviceItem) -> Markup:
    """Draw the update machine with the device on it."""
    phase = _phase(device)
    said = f"The way through an update: {', '.join(ROAD)}; it may end {' or '.join(ENDS)}. The device is {phase}."
    return machine(said, ROAD, ENDS, STEPS.keys(), phase)


def gauges_of(platform: dict[str, Any]) -> list[tuple[str, float, str]]:
    """Pick what a device last said of its power and heat: (name, value, unit)."""
    found = []
    for name, value in platform.items():
        unit = "°C" if name.endswith(("_c", "temperature")) else "W" if name.endswith("_w") else None
        if unit is not None and isinstance(value, int | float) and not isinstance(value, bool):
            words = name.removesuffix("_c").removesuffix("_w").removeprefix("temp_")
            found.append((words.replace("_", " "), float(value), unit))
    return sorted(found, key=lambda gauge: (gauge[2], gauge[0]))[:16]


async def _series(call: PageCall, device_id: str, hours: int) -> DeviceSeries:
    now = clock.now()

    async def make() -> DeviceSeries:
        return await telemetry.device_series(call.session, device_id, now, hours)

    return await call.desk.cache.get(("device-series", device_id, hours), SERIES_S, make)


@devices.get("/fleet/{device_id}/series.json")
async def series_file(device_id: str, call: SeeCall, hours: Hours = HOURS) -> Response:
    """Give what was measured, step by step."""
    await service.get_device(call.session, device_id)
    return Response((await _series(call, device_id, hours)).model_dump_json(), media_type="application/json")


@devices.get("/fleet/{device_id}/plots.json")
async def plots_file(device_id: str, call: SeeCall, hours: Hours = HOURS) -> Response:
    """Give what the charts draw, by the figure's key."""
    await service.get_device(call.session, device_id)
    names, series = await load_names(call), await _series(call, device_id, hours)
    marks = measured.marks_of(series, names)
    figures = measured.figures_of(series, incident_kinds(names))
    return JSONResponse({figure.key: measured.plot_of(figure, series, marks) for figure in figures})


@devices.get("/recordings/{sha256}/file")
async def recording_file(sha256: str, call: SeeCall) -> Response:
    """Give a stored recording as the file that the device sent."""
    size = await _stored(call, sha256)
    headers = {
        "Content-Disposition": f'attachment; filename="{sha256[:16]}.mcap"',
        "Content-Length": str(size),
    }
    return StreamingResponse(call.context.objects.open(sha256), headers=headers, media_type="application/octet-stream")


@devices.get("/recordings/{sha256}/open/{viewer}")
async def open_recording(sha256: str, viewer: str, call: SeeCall) -> Response:
    """Lead to a viewer that reads the recording from a signed address; the address is made now and soon expires.

    Raises:
        NotFound: we know no such viewer, or the recording is not stored.
    """
    viewers = {"foxglove": FOXGLOVE, "foxglove-desktop": FOXGLOVE_DESKTOP}
    if viewer not in viewers:
        raise NotFound(f"recordings are opened in {' or '.join(viewers)}")
    await _stored(call, sha256)
    url = await call.context.objects.download_url(sha256, OPEN_S)
    whole = url if "://" in url else f"{call.context.settings.public_url.rstrip('/')}{url}"
    return RedirectResponse(viewers[viewer] + quote(whole, safe=""), SEE_OTHER)


async def _stored(call: PageCall, sha256: str) -> int:
    call.principal.must_be(Role.VIEWER)
    recording = await telemetry.get_recording(call.session, sha256)
    if recording.state is not RecordingState.STORED:
        raise NotFound(f"this recording is not here to be read: it is {recording.state}")
    return recording.size_bytes
