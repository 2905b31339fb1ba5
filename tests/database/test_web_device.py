"""A device's page: its own events however many others have, what it measured, its recordings and where they open."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest

from control_plane.kit import clock
from control_plane.kit.db import execute, rows
from control_plane.kit.roles import Role
from control_plane.telemetry.service.series import FIGURES, STEPS, spread
from control_plane.web.pages.devices import gauges_of
from tests.browser.parts import mcap
from tests.database.test_web import Site
from tests.support.device import CONTENT, Device, enrol, event, window
from tests.support.server import BASE, open_server


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_server(database_url, tmp_path) as server:
        yield Site(server, None)  # type: ignore[arg-type] - nothing of the seed is used here


async def recorded(site: Site, device: Device, event_id: str) -> tuple[str, bytes]:
    """Let a device announce a recording and put it."""
    data = mcap(event_id)
    digest, now = sha256(data).hexdigest(), datetime.now(UTC)
    message = {
        "sha256": digest,
        "size_bytes": len(data),
        "trigger": "collision",
        "event_id": event_id,
        "content_digest": CONTENT,
        "started_at": (now - timedelta(seconds=8)).isoformat(),
        "ended_at": now.isoformat(),
    }
    answer = (await device.post("recordings", message)).json()
    where = urlsplit(answer["upload_url"])
    assert (await site.server.http.put(f"{where.path}?{where.query}", content=data)).status_code == 201
    assert (await device.post(f"recordings/{digest}/complete", {})).json()["state"] == "have"
    return digest, data


async def test_a_device_shows_its_own_events_however_many_others_have(site: Site) -> None:
    quiet, loud = await enrol(site.server, "quiet"), await enrol(site.server, "loud")
    await quiet.telemetry(events=[event(0, "near_miss")])
    for batch in range(2):
        await loud.telemetry(events=[event(batch * 400 + i, "stuck") for i in range(400)])
    browser = await site.browser(Role.VIEWER)
    page = (await browser.get(f"/fleet/{quiet.id}")).text
    assert ">near miss</td>" in page
    assert ">stuck</td>" not in page
    assert (await browser.get(f"/fleet/{loud.id}")).text.count(">stuck</td>") == 20
    found = await site.server.ok("GET", f"/events?device={quiet.id}")
    assert [each["kind"] for each in found["items"]] == ["near_miss"]


async def test_what_it_measured_is_a_series_with_gaps(site: Site) -> None:
    device = await enrol(site.server)
    browser, now = await site.browser(Role.VIEWER), clock.now()
    page = (await browser.get(f"/fleet/{device.id}?hours=1")).text
    assert "It has sent no window in the last 1 h" in page
    windows = []
    for i, minutes in enumerate((350, 200, 199, 5, 60 * 30)):
        ended = now - timedelta(minutes=minutes)
        times = {"started_at": (ended - timedelta(seconds=10)).isoformat(), "ended_at": ended.isoformat()}
        windows.append(window(i) | times | {"latency_p99_ms": 2.0 + i, "energy_j": None if i == 3 else 150.0})
    await device.telemetry(windows=windows)
    got = (await browser.get(f"/fleet/{device.id}/series.json?hours=7")).json()
    assert len(got["latency_p99_ms"]) == STEPS
    assert (got["step_s"], got["device_id"]) == (210, device.id)
    slots = [i for i, value in enumerate(got["latency_p99_ms"]) if value is not None]
    start = datetime.fromisoformat(got["starts_at"])
    right = {int((now - timedelta(minutes=m) - start).total_seconds() // 210) for m in (350, 200, 199, 5)}
    assert set(slots) == right
    assert [value for value in got["power_w"] if value is not None] == [15.0] * (len(slots) - 1)
    assert max(value for value in got["latency_p99_ms"] if value) == 5.0
    page = (await browser.get(f"/fleet/{device.id}?hours=24")).text
    assert page.count('<svg class="chart series"') == 4
    for file in ("series.json", "plots.json"):
        assert (await browser.get(f"/fleet/{device.id}/{file}?hours=1000")).status_code == 422
        assert (await browser.get(f"/fleet/dev_none/{file}")).status_code == 404


async def test_charts_have_heat_least_and_greatest_and_where_another_version_began(site: Site) -> None:
    device, other, step_s = await enrol(site.server), "d" * 64, 168 * 3600 // STEPS
    # All within one step of a week: the last whole one.
    start = datetime.fromtimestamp((int(clock.now().timestamp()) // step_s - 1) * step_s, UTC)
    browser, windows = await site.browser(Role.VIEWER), []
    for i, (minutes, content) in enumerate(((20, CONTENT), (21, CONTENT), (40, other), (60, other))):
        ended = start + timedelta(minutes=minutes)
        times = {"started_at": (ended - timedelta(seconds=10)).isoformat(), "ended_at": ended.isoformat()}
        heat = {"temperature_max_c": 50.0 + i, "throttled_s": 2.0 * (i == 1)} if i < 3 else {}
        windows.append(window(i, content) | times | heat | {"energy_j": 100.0 + 100 * i})
    await device.telemetry(windows=windows)
    plots = (await browser.get(f"/fleet/{device.id}/plots.json?hours=168")).json()
    assert list(plots) == ["latency", "power_w", "heat_c", "throttled_s", "distance_m", "incidents"]
    told = {line["name"]: [y for y in line["y"] if y is not None] for line in plots["power_w"]["lines"]}
    assert told == {"power": [25.0], "least window": [10.0], "greatest window": [40.0]}
    assert [max(y for y in line["y"] if y is not None) for line in plots["heat_c"]["lines"]] == [52.0, 50.0]
    assert sum(y or 0 for y in plots["throttled_s"]["lines"][0]["y"]) == 2.0
    assert all(len(plot["x"]) == STEPS == len(plot["lines"][0]["y"]) for plot in plots.values())
    begun = (start + timedelta(minutes=40)).timestamp()
    assert [(mark["x"], mark["words"]) for mark in plots["latency"]["marks"]] == [
        (pytest.approx(begun, abs=0.01), "d" * 10)
    ]
    page = (await browser.get(f"/fleet/{device.id}?hours=24")).text
    for key in ("latency", "power_w", "distance_m", "heat_c"):
        assert f'<figure id="series-{key}"' in page
    assert 'class="turn"' in page
    assert f'href="/lineage/device/{device.id}"' in page
    table = page[page.index("The same as a table") :]
    assert table.index(f"/versions/{other}") < table.index(f"/versions/{CONTENT}")  # the newest first
    assert 'href="?hours=168#series"' in page


async def test_devices_of_the_first_release_tell_no_heat_and_odd_heat_is_refused(site: Site) -> None:
    device = await enrol(site.server)
    assert (await device.telemetry(windows=[window(0), window(1) | {"temperature_max_c": 61}])).status_code == 200
    assert (await device.telemetry(windows=[window(2) | {"temperature_max_c": 4000.0}])).status_code == 422
    async with site.server.context.database.transaction() as session:
        query = "select seq, temperature_max_c, throttled_s from telemetry_window where device_id = :device order by 1"
        found = await rows(session, query, device=device.id)
    assert [tuple(line.values()) for line in found] == [(0, None, None), (1, 61.0, None)]


def test_slots_beyond_the_steps_are_left_out() -> None:
    line: Any = {"slot": STEPS} | dict.fromkeys(FIGURES, 1.0)
    assert spread([line])["power_w"] == [None] * STEPS


def test_only_figures_of_power_and_heat_are_gauges() -> None:
    said = {"temp_gpu_c": 61.5, "power_w": 12, "cores": 8, "power_mode": "15W", "rail_soc_w": True, "x_c": "<b>"}
    assert gauges_of(said) == [("power", 12.0, "W"), ("gpu", 61.5, "°C")]
    assert len(gauges_of({f"temp_{i}_c": 1 for i in range(64)})) == 16


async def test_a_recording_is_downloaded_and_opened_from_an_address_that_expires(site: Site) -> None:
    device = await enrol(site.server)
    happened = event(0)
    await device.telemetry(events=[happened])
    digest, data = await recorded(site, device, happened["event_id"])
    browser = await site.browser(Role.VIEWER)
    page = (await browser.get(f"/fleet/{device.id}")).text
    assert page.count(f'/recordings/{digest}/open/foxglove"') == 2  # at its event and among its recordings
    assert "app.foxglove.dev" not in page  # the address is made when somebody asks for it
    file = await browser.get(f"/recordings/{digest}/file")
    assert file.content == data
    assert file.headers["content-disposition"] == f'attachment; filename="{digest[:16]}.mcap"'
    opened = await browser.get(f"/recordings/{digest}/open/foxglove")
    assert opened.status_code == 303
    way = urlsplit(opened.headers["location"])
    assert (way.scheme, way.netloc) == ("https", "app.foxglove.dev")
    source = parse_qs(way.query)
    assert source["ds"] == ["remote-file"]
    url = source["ds.url"][0]
    assert url.startswith(f"{BASE}/objects/v1/get/{digest}?")
    await reads_parts(site.server.http, url, data)
    desktop = (await browser.get(f"/recordings/{digest}/open/foxglove-desktop")).headers["location"]
    assert unquote(desktop).startswith(f"foxglove://open?ds=remote-file&ds.url={BASE}/objects/")
    assert (await browser.get(f"/recordings/{digest}/open/elsewhere")).status_code == 404
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site.server.app), base_url=BASE) as stranger:
        for path in (
            f"/recordings/{digest}/file",
            f"/recordings/{digest}/open/foxglove",
            f"/fleet/{device.id}/series.json",
            f"/fleet/{device.id}/plots.json",
        ):
            assert (await stranger.get(path)).headers["location"].startswith("/login"), path


async def reads_parts(http: httpx.AsyncClient, url: str, data: bytes) -> None:
    """Read as a viewer in another page does: the size first, then parts."""
    size = await http.head(url)
    assert (size.headers["content-length"], size.headers["accept-ranges"]) == (str(len(data)), "bytes")
    assert size.headers["access-control-allow-origin"] == "*"
    part = await http.get(url, headers={"Range": "bytes=8-15"})
    assert (part.status_code, part.content) == (206, data[8:16])
    assert part.headers["content-range"] == f"bytes 8-15/{len(data)}"
    assert (await http.get(url, headers={"Range": f"bytes={len(data)}-"})).status_code == 416
    assert (await http.get(url)).content == data


async def test_a_declined_recording_is_not_opened(site: Site) -> None:
    device = await enrol(site.server)
    happened = event(0)
    await device.telemetry(events=[happened])
    digest, _ = await recorded(site, device, happened["event_id"])
    async with site.server.context.database.transaction() as session:
        await execute(
            session, "update telemetry_recording set state = 'rejected' where sha256 = :sha256", sha256=digest
        )
    browser = await site.browser(Role.ADMIN)
    for path in (f"/recordings/{digest}/file", f"/recordings/{digest}/open/foxglove", f"/recordings/{'0' * 64}/file"):
        assert (await browser.get(path)).status_code == 404, path
    assert "/open/foxglove" not in (await browser.get(f"/fleet/{device.id}")).text


async def test_the_machine_says_where_the_device_stands_and_why(site: Site) -> None:
    device = await enrol(site.server)
    said = {"release_digest": "d" * 64, "counter": 3, "phase": "armed", "reason": "waiting_safe_state"}
    await device.check_in(deployment=said | {"detail": "battery is 12, at least 30"}, platform={"temp_soc_c": 51.5})
    page = (await (await site.browser(Role.VIEWER)).get(f"/fleet/{device.id}")).text
    here = re.search(r'class="phase here".*?</g>', page)
    assert here
    assert "armed" in here[0]
    for words in ("waiting safe state: battery is 12, at least 30", "the trial begins", "51.5 °C", "d" * 64):
        assert words in page, words
