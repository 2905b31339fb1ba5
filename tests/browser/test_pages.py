"""The pages in a real browser: log in, answer, halt, and see them live."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import asyncpg

from control_plane.kit.settings import Settings
from control_plane.main import open_context
from control_plane.review import service as review
from control_plane.rollout import service as rollout
from tests.browser.site import Live
from tests.browser.walk import browsing


@asynccontextmanager
async def open_page(
    how: Any, live: Live, scheme: Literal["light", "dark"] = "light"
) -> AsyncIterator[tuple[Any, list[str]]]:
    async with browsing(how, live.url, live.token, scheme=scheme) as visit:
        yield visit.page, visit.complaints


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


async def test_pages_stay_live_and_keep_what_somebody_writes(live: Live, browser_page: Any, database_url: str) -> None:
    async with open_page(browser_page, live) as (page, complaints):
        await page.goto(f"{live.url}/rollouts/{live.made.rollouts[-1]}")
        await page.click("#act-halt summary")
        await page.fill("#reason-halt", "half a sent")
        await page.evaluate("document.querySelector('.because').textContent = 'stale'")
        await page.evaluate("document.querySelector('main h1').dataset.kept = 'yes'")
        await _change(database_url)
        await page.wait_for_selector(".because:not(:text-is('stale'))", timeout=8000)
        assert await page.input_value("#reason-halt") == "half a sent"
        assert await page.evaluate("document.activeElement.id") == "reason-halt"
        assert await page.evaluate("document.querySelector('#act-halt').open")
        assert complaints == []
        live.processes[0].terminate()
        await page.wait_for_selector("#live.lost", timeout=12000)
        assert await page.text_content("#live") == "connection lost"
        assert await page.input_value("#reason-halt") == "half a sent"


async def _change(database_url: str) -> None:
    """Change a rollout behind everybody's back; the database tells."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("update rollout set because = because")
    await connection.close()
