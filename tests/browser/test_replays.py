"""A replay in a real browser: drawn, played, scrubbed, by mouse and keys, light and dark, wide and narrow."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from control_plane.evaluation import service as evaluation
from control_plane.evaluation.schemas import FileRef, GateReplayPut
from control_plane.kit.settings import Settings
from control_plane.main import open_context
from control_plane.registry import service as registry
from tests.browser.site import Live
from tests.browser.test_pages import open_page
from tests.support.gatework import onnx_of
from tests.support.replaywork import replay_body

SIMULATOR = "mujoco-3.14/mjbatch-0.1.4"
COLOURS = """() => Array.from(document.querySelectorAll("canvas"), (canvas) => {
  const seen = new Set(), { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) seen.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
  return seen.size;
})"""


@pytest.fixture
async def replayed(live: Live, database_url: str, tmp_path: Path) -> str:
    """Give the first gate of the seed a replay of both sides of its first flip; return the page's address."""
    gate = live.made.gates[0]
    flip = gate.flips[0]
    context = open_context(Settings(database_url=database_url, home=tmp_path))
    for side, content in (("candidate", gate.candidate), ("champion", gate.champion)):
        async with context.database.transaction() as session:
            model = onnx_of((await registry.get_version(session, content or "")).model_dump())
            words = f"<b>{side}</b> reached its goal after 5.9 s"
            body = replay_body(model, flip.scenario, suite=flip.suite, simulator=SIMULATOR)
            body["outcome"]["words"] = words
            data = json.dumps(body).encode()
            file = FileRef(sha256=(await context.objects.put_bytes(data)).sha256, size_bytes=len(data))
            said = {"suite": flip.suite, "scenario": flip.scenario, "side": side, "file": file}
            put = await evaluation.put_replay(session, context.objects, gate.id, GateReplayPut.model_validate(said))
    await context.database.close()
    return live.url + put.page


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 380)])
async def test_a_person_plays_and_scrubs(
    live: Live, replayed: str, browser_page: Any, scheme: Literal["light", "dark"], width: int, tmp_path: Path
) -> None:
    async with open_page(browser_page, live, scheme) as (page, complaints):
        await page.set_viewport_size({"width": width, "height": 900})
        await page.goto(replayed)
        await page.wait_for_selector(".player:not([hidden])")
        assert await page.text_content(".time") == "0.0 s"
        assert min(await page.evaluate(COLOURS)) > 10
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("Shift+ArrowRight")
        assert await page.text_content(".time") == "1.1 s"
        await page.keyboard.press("ArrowLeft")
        assert await page.text_content(".time") == "1.0 s"
        assert "clearance" in await page.text_content(".drive[data-side=candidate] .reading")
        await page.keyboard.press("Space")
        assert await page.text_content(".play") == "Pause"
        await page.wait_for_selector(".time:not(:text-is('1.0 s'))")
        await page.click(".play")
        await page.fill(".scrub input", "59")
        assert await page.text_content(".time") == "5.9 s"
        assert "<b>candidate</b> reached its goal" in await page.text_content(".drive[data-side=candidate] .reading")
        await page.uncheck(".follow")
        curve = page.locator(".curve-box svg").first
        width_px = (await curve.bounding_box())["width"]
        await curve.click(position={"x": width_px / 2, "y": 40})
        assert 2.5 < float((await page.text_content(".time")).split()[0]) < 3.5
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await page.locator("svg .curve").count() == 4
        assert complaints == []
        await page.screenshot(path=tmp_path / "replay.png")


async def test_without_scripts_the_outcomes_and_last_steps_are_there(
    live: Live, replayed: str, browser_page: Any
) -> None:
    async with open_page(browser_page, live) as (page, _):
        await page.route("**/static/replay.js*", lambda route: route.abort())
        await page.goto(replayed)
        assert await page.locator("canvas:visible").count() == 0
        assert await page.locator(".outcome:visible").count() == 2
        assert await page.locator("tbody tr").count() == 24


async def test_a_replay_that_cannot_be_fetched_says_so(live: Live, replayed: str, browser_page: Any) -> None:
    async with open_page(browser_page, live) as (page, _):
        await page.route("**/candidate.json", lambda route: route.fulfill(status=500, body="no"))
        await page.goto(replayed)
        await page.wait_for_selector(".failed:not([hidden])")
        assert "the server answered 500" in await page.text_content(".failed")
