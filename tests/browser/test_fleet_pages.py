"""The fleet's pages in a real browser: find, tick, be asked twice; on a phone, in the dark, without scripts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.browser.conftest import Live

SMALL_TARGETS = """[...document.querySelectorAll(
        'main a, main button, main input:not([type=hidden]), main select, main summary')]
    .map(e => [e, (e.matches('input[type=checkbox]') && e.closest('label') || e).getBoundingClientRect()])
    .filter(([e, box]) => box.width && (box.height < 24 || box.width < 24) && !e.closest('p, td, th, dd, li.line'))
    .map(([e]) => e.outerHTML.slice(0, 120))"""
UNLABELLED = """[...document.querySelectorAll('main input:not([type=hidden]), main select')]
    .filter(e => !e.labels.length && !e.ariaLabel).map(e => e.outerHTML)"""
TABLES = "[...document.querySelectorAll('table')].every(t => t.caption && t.querySelector('th[scope]'))"


@asynccontextmanager
async def open_page(how: Any, live: Live, **context: Any) -> AsyncIterator[tuple[Any, list[str]]]:
    from playwright.async_api import async_playwright  # noqa: PLC0415 - absent where this is skipped

    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**how)
        page = await browser.new_page(**{"viewport": {"width": 1440, "height": 900}} | context)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        await page.goto(f"{live.url}/fleet?sort=-serial")
        await page.fill("#token", live.token)
        await page.click("main button")
        await page.wait_for_url("**/fleet?sort=-serial")  # the whole address, past the login
        yield page, complaints
        await browser.close()


async def test_a_person_filters_ticks_and_quarantines(live: Live, browser_page: Any) -> None:
    async with open_page(browser_page, live) as (page, complaints):
        await page.goto(f"{live.url}/fleet")
        await page.click("#facets a:has-text('hall')")
        await page.wait_for_url("**/fleet?site=hall")
        assert await page.locator("tbody tr").count() == 2
        first = live.made.robots[0].who.id
        await page.check(f"#t-{first}")
        await page.evaluate("document.querySelector('main h1').textContent = 'stale'")
        await page.wait_for_selector("h1:text-is('Fleet')", timeout=8000)
        assert await page.is_checked(f"#t-{first}")
        await page.select_option("#act-what", "quarantine")
        await page.click("button[value=ticked]")
        await page.wait_for_selector("#count:text-is('1')")
        await page.fill("#why", "a drill")
        await page.click("form.bulk button")
        await page.wait_for_selector("main:has-text('Asked a second time')")
        await page.click("#do")
        await page.wait_for_selector("main:has-text('1 of 1 devices were changed')")
        await page.goto(f"{live.url}/fleet?health=quarantined")
        assert await page.locator("tbody tr").count() == 1
        assert complaints == []


async def test_a_view_is_kept_and_found_again(live: Live, browser_page: Any) -> None:
    async with open_page(browser_page, live) as (page, complaints):
        await page.goto(f"{live.url}/fleet?health=updating&sort=site")
        await page.click("#views summary")
        await page.fill("#view-name", "on their way")
        await page.click("#save-view button")
        await page.wait_for_url("**/fleet?health=updating&sort=site")
        await page.goto(f"{live.url}/fleet")
        await page.click("#views summary")
        await page.click("a:has-text('on their way')")
        await page.wait_for_url("**/fleet?health=updating&sort=site")
        assert complaints == []


@pytest.mark.parametrize(
    "context",
    [
        {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}},
        {"color_scheme": "light", "java_script_enabled": False},
    ],
    ids=["phone in the dark", "without scripts"],
)
async def test_every_page_of_the_fleet_is_usable(live: Live, browser_page: Any, context: dict[str, Any]) -> None:
    device = live.made.robots[5].who.id
    paths = ["/fleet", "/fleet?health=failed", "/fleet/plan", "/fleet/plan?site=hall", f"/fleet/{device}"]
    paths += ["/fleet/actions?action=label&of=all", f"/fleet/{live.made.robots[0].who.id}?hours=1"]
    async with open_page(browser_page, live, **context) as (page, complaints):
        for path in paths:
            answer = await page.goto(live.url + path)
            assert answer.status == 200, path
            assert await page.locator("h1").count() == 1, path
            if context.get("java_script_enabled", True):
                assert await page.evaluate(TABLES), path
                assert await page.evaluate(UNLABELLED) == [], path
                assert await page.evaluate(SMALL_TARGETS) == [], path
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert await page.locator("svg .phase.here").count() == 1
        assert complaints == []
