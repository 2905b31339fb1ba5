"""What a robot recorded, in a real browser: drawn and played on the page of its event and of its recording."""

from typing import Any, Literal

import pytest

from tests.browser.site import Live
from tests.browser.test_pages import open_page
from tests.browser.test_replays import COLOURS

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 380)])
async def test_a_person_plays_what_a_robot_recorded(
    live: Live, browser_page: Any, scheme: Literal["light", "dark"], width: int
) -> None:
    from axe_playwright_python.async_playwright import Axe  # noqa: PLC0415 - absent where this is skipped

    async with open_page(browser_page, live, scheme) as (page, complaints):
        await page.set_viewport_size({"width": width, "height": 900})
        await page.goto(f"{live.url}/recordings/{live.made.recordings[0]}")
        await page.wait_for_selector(".player:not([hidden])")
        assert await page.text_content(".time") == "0.0 s"
        assert min(await page.evaluate(COLOURS)) > 10
        await page.click(".to-trigger")
        assert await page.text_content(".time") == "4.0 s"
        reading = await page.text_content(".drive .reading")
        for words in ("drives 1.00 m/s", "asked for 1.00 m/s", "clearance 0.0", "the trigger"):
            assert words in reading, reading
        assert "collision in" not in reading, "a recording tells no time to collision"
        await page.locator("h1").click()
        await page.keyboard.press("ArrowLeft")
        assert await page.text_content(".time") == "3.9 s"
        await page.keyboard.press("Space")
        assert await page.text_content(".play") == "Pause"
        await page.wait_for_selector(".time:not(:text-is('3.9 s'))")
        await page.click(".play")
        await page.fill(".scrub input", "59")
        assert "here the recording ends" in await page.text_content(".drive .reading")
        await page.uncheck(".follow")
        assert (await page.locator("svg .curve").count(), await page.locator("svg .trigger").count()) == (2, 2)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = await Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
        assert found.response["violations"] == [], found.generate_report()
        assert complaints == []


async def test_the_page_of_an_event_draws_its_recording(live: Live, browser_page: Any) -> None:
    async with open_page(browser_page, live) as (page, complaints):
        await page.goto(f"{live.url}/recordings/{live.made.recordings[0]}")
        await page.locator("dl a[href^='/events/']").click()
        await page.wait_for_url("**/events/*")
        await page.wait_for_selector("canvas:visible")
        assert min(await page.evaluate(COLOURS)) > 10
        assert complaints == []


async def test_without_scripts_the_last_recorded_steps_are_there(live: Live, browser_page: Any) -> None:
    async with open_page(browser_page, live) as (page, _):
        await page.route("**/static/replay.js*", lambda route: route.abort())
        await page.goto(f"{live.url}/recordings/{live.made.recordings[0]}")
        assert await page.locator("canvas:visible, .player:visible").count() == 0
        assert await page.locator("tbody tr").count() == 12
