"""A device's charts in a real browser: read under the cursor all at once, and pictures without scripts."""

from typing import Any

from tests.browser.site import Live
from tests.browser.walk import browsing

KEYS = ("latency", "power_w", "heat_c", "throttled_s", "distance_m", "incidents")


async def test_the_cursor_reads_every_chart_at_the_same_time(live: Live, browser_page: Any) -> None:
    async with browsing(browser_page, live.url, live.token) as visit:
        page = visit.page
        await visit.go(f"/fleet/{live.made.robots[0].who.id}?hours=24")
        await page.wait_for_selector("#series-incidents .uplot")
        assert await page.locator("#series .uplot").count() == len(KEYS)
        assert await page.locator("#series .picture:visible").count() == 0
        over = page.locator("#series-power_w .u-over")
        await over.scroll_into_view_if_needed()
        box = await over.bounding_box()
        await page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 20)
        read = [await page.locator(f"#series-{key} .u-legend .u-value").all_inner_texts() for key in KEYS]
        assert len({values[0] for values in read}) == 1  # one time for all
        assert all(values[1][0].isdigit() for values in read), read
        await page.click("text=7 d")
        await page.wait_for_url("**?hours=168#series")
        await page.wait_for_selector("#series-incidents .uplot")
        await page.click("text=The same as a table")
        assert await page.locator("details.measured tbody tr").count() > 0
        assert visit.complaints == []


async def test_without_scripts_there_are_pictures(live: Live, browser_page: Any) -> None:
    async with browsing(browser_page, live.url, live.token, scripts=False) as visit:
        await visit.go(f"/fleet/{live.made.robots[0].who.id}")
        assert await visit.page.locator("#series svg.series:visible").count() == len(KEYS)
