"""What a device recorded, seen on the pages: by whom, of what, and what is said where it cannot be drawn."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from control_plane.kit.roles import Role
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from tests.database.test_web import Site
from tests.support import mcap
from tests.support.described import LAYOUTS, SCENE, described
from tests.support.device import CONTENT, Device, enrol, event
from tests.support.server import open_server

EVIL = '"><script>alert(1)</script>'


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_server(database_url, tmp_path) as server:
        async with server.context.database.transaction() as session:
            await lineage.link(session, Node(Kind.MODEL_VERSION, CONTENT), [Node(Kind.TRAINING, "t")], "trained by")
        yield Site(server, None)  # type: ignore[arg-type] - nothing of the seed is used here


async def recorded(site: Site, device: Device, data: bytes, event_id: str | None = None) -> str:
    """Let a device announce a recording and put it; return its digest."""
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
    where = urlsplit((await device.post("recordings", message)).json()["upload_url"])
    assert (await site.server.http.put(f"{where.path}?{where.query}", content=data)).status_code == 201
    assert (await device.post(f"recordings/{digest}/complete", {})).json()["state"] == "have"
    return digest


async def test_an_event_and_its_recording_show_the_scene_and_its_last_steps(site: Site) -> None:
    device, happened = await enrol(site.server, "one"), event(0, "collision")
    await device.telemetry(events=[happened])
    digest = await recorded(site, device, described(), happened["event_id"])
    browser = await site.browser(Role.VIEWER)
    for path in (f"/recordings/{digest}", "/events/1"):
        page = (await browser.get(path)).text
        assert f'data-file="/recordings/{digest}/replay.json"' in page
        for words in ("replay.js", "Last recorded steps", "To the trigger, 4.0 s", "Clearance to the nearest mover"):
            assert words in page, (path, words)
        assert page.count("<tr><td") == 12
        assert "<script>" not in page
        assert "data-topics" not in page, "a page with a scene that is played is not replaced while it plays"
    answer = await browser.get(f"/recordings/{digest}/replay.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    body = answer.json()
    assert (len(body["steps"]), body["triggered_t_s"], body["world"]["rectangles"][0]) == (60, 4.0, [5, 3, 6, 1])


async def test_what_does_not_describe_itself_is_said_plainly(site: Site) -> None:
    device = await enrol(site.server, "one")
    alone = described(layouts={"/pose": LAYOUTS["/pose"]}, scene=None, triggered=None)
    hostile = described(scene=SCENE | {"robot": {"radius_m": EVIL}})
    browser = await site.browser(Role.VIEWER)
    bare = await recorded(site, device, alone)
    page = (await browser.get(f"/recordings/{bare}")).text
    told = [words in page for words in ("To the trigger", "Clearance to the nearest", "Speed, metres a second")]
    assert told == [False, False, True]
    for data, words in (
        (mcap.recording(), "does not describe itself"),
        (described(layouts={"/pose": b""}), "no layout, like those of older recorders"),
        (hostile, "metadata replay is wrong: robot.radius_m"),
        (described(layouts=LAYOUTS | {"/pose": b"[" * 9000}), "layout of /pose is none"),
    ):
        digest = await recorded(site, device, data)
        page = (await browser.get(f"/recordings/{digest}")).text
        assert (words in page, "replay.js" in page, "data-topics" in page) == (True, False, True), words
        assert "<script>alert" not in page
        answer = await browser.get(f"/recordings/{digest}/replay.json")
        assert answer.status_code == 422, answer.text
        assert words in answer.text


async def test_a_recording_that_is_lost_or_unknown_has_no_replay(site: Site) -> None:
    device = await enrol(site.server, "one")
    digest = await recorded(site, device, described())
    await site.server.context.objects.delete(digest)
    browser = await site.browser(Role.VIEWER)
    page = await browser.get(f"/recordings/{digest}")
    assert (page.status_code, "this recording is lost" in page.text) == (200, True)
    assert (await browser.get(f"/recordings/{digest}/replay.json")).status_code == 404
    assert (await browser.get(f"/recordings/{'0' * 64}/replay.json")).status_code == 404
