"""The pages in a real browser: log in, answer, halt, and see them live."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from control_plane.kit.settings import Settings
from control_plane.main import open_context
from control_plane.review import service as review
from control_plane.rollout import service as rollout
from tests.browser.site import Live


@asynccontextmanager
async def open_page(how: Any, live: Live, scheme: str = "light") -> AsyncIterator[tuple[Any, list[str]]]:
    from playwright.async_api import async_playwright  # noqa: PLC0415 - absent where this is skipped

    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**how)
        page = await browser.new_page(color_scheme=scheme, viewport={"width": 1440, "height": 900})
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        await page.goto(f"{live.url}/rollouts")
        await page.fill("#token", live.token)
        await page.click("main button")
        await page.wait_for_url("**/rollouts")
        yield page, complaints
        await browser.close()


async def test_a_person_logs_in_approves_and_halts(
    live: Live, browser_page: Any, database_url: str, tmp_path: Path
) -> None:
    async with open_page(browser_page, live) as (page, complaints):
        await page.goto(live.url)
        await page.fill(f"#reason-{live.made.review}", "looked at the evidence")
        await page.click("button[value=approve]")
        await page.wait_for_selector("text=Nothing waits")
        await page.goto(f"{live.url}/rollouts/{live.made.rollouts[-1]}")
        await page.click("#act-halt summary")
        await page.fill("#reason-halt", "a drill")
        await page.click("#act-halt form button")
        await page.wait_for_selector("text=A person wants it halted")
        assert complaints == []
    context = open_context(Settings(database_url=database_url, home=tmp_path))
    async with context.database.transaction() as session:
        assert (await review.get(session, live.made.review)).state == "approved"
        assert (await rollout.get(session, live.made.rollouts[-1])).wishes["halt"] is True
    await context.database.close()


async def test_pages_stay_live_and_keep_what_somebody_writes(live: Live, browser_page: Any) -> None:
    async with open_page(browser_page, live) as (page, complaints):
        await page.goto(f"{live.url}/rollouts/{live.made.rollouts[-1]}")
        await page.click("#act-halt summary")
        await page.fill("#reason-halt", "half a sent")
        await page.evaluate("document.querySelector('.because').textContent = 'stale'")
        await page.evaluate("document.querySelector('main h1').dataset.kept = 'yes'")
        await page.wait_for_selector(".because:not(:text-is('stale'))", timeout=8000)
        assert await page.input_value("#reason-halt") == "half a sent"
        assert await page.evaluate("document.activeElement.id") == "reason-halt"
        assert await page.evaluate("document.querySelector('#act-halt').open")
        assert complaints == []
        live.process.terminate()
        await page.wait_for_selector("#live.lost", timeout=12000)
        assert await page.text_content("#live") == "connection lost"
        assert await page.input_value("#reason-halt") == "half a sent"


async def test_every_page_keeps_to_its_policy_in_the_dark_too(live: Live, browser_page: Any) -> None:
    paths = ["/", "/fleet", "/events", "/events/1", "/runs", f"/runs/{live.made.runs[0]}", "/evaluations", "/models"]
    paths += ["/audit", "/ledger", f"/versions/{live.made.versions[-1].content_digest}"]
    paths += [f"/gates/{live.made.gates[0].id}", f"/fleet/{live.made.robots[0].who.id}"]
    async with open_page(browser_page, live, "dark") as (page, complaints):
        for path in paths:
            answer = await page.goto(live.url + path)
            assert answer.status == 200, path
            assert await page.evaluate("document.querySelectorAll('h1').length") == 1, path
            assert await page.evaluate(
                "[...document.querySelectorAll('table')].every(t => t.caption && t.querySelector('th[scope]'))"
            ), path
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert complaints == []
