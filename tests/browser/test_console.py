"""The whole way through the console in a real browser: on a desk and on a phone, in light and in dark."""

from typing import Any, Literal

import pytest

from tests.browser.site import Live
from tests.browser.walk import DESKTOP, PHONE, Visit, browsing, walk

LOOKS = [
    pytest.param(DESKTOP, "light", id="desktop-light"),
    pytest.param(PHONE, "dark", id="phone-dark"),
]
Scheme = Literal["light", "dark"]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


async def fits(page: Any) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


WIDE_TABLES = """() => [...document.querySelectorAll("main table")].filter(
  (table) => table.checkVisibility() && table.scrollWidth > table.parentElement.clientWidth + 1
).map((table) => table.caption?.textContent)"""
ON_TOP = """() => {
  const skip = document.querySelector(".skip"), box = skip.getBoundingClientRect();
  return document.activeElement === skip && document.elementFromPoint(box.x + 9, box.y + 9) === skip;
}"""


async def test_on_a_phone_no_table_is_wider_than_its_card(live: Live, browser_page: Any) -> None:
    async with browsing(browser_page, live.url, live.token, size=PHONE) as visit:
        await visit.page.keyboard.press("Tab")
        assert await visit.page.evaluate(ON_TOP), "the link that skips to the content lies under something"
        wide = {path: found async for _, path in walk(visit) if (found := await visit.page.evaluate(WIDE_TABLES))}
        assert wide == {}
        await visit.go("/fleet")
        assert await visit.page.locator("#filters").get_attribute("open") is None


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("size", "scheme"), LOOKS)
async def test_every_page_is_accessible_fits_and_keeps_to_itself(
    live: Live, browser_page: Any, size: dict[str, int], scheme: Scheme
) -> None:
    from axe_playwright_python.async_playwright import Axe  # noqa: PLC0415 - absent where this is skipped

    async with browsing(browser_page, live.url, live.token, scheme=scheme, size=size) as visit:
        kinds, faults = [], []
        async for kind, path in walk(visit):
            kinds.append(kind)
            found = await Axe().run(visit.page, options={"runOnly": {"type": "tag", "values": RULES}})
            if found.response["violations"]:
                faults.append(f"{path}: {found.generate_report()}")
            if not await fits(visit.page):
                faults.append(f"{path}: wider than the window")
        await visit.page.keyboard.press("Control+k")
        await visit.page.wait_for_selector("#found a")
        found = await Axe().run(visit.page, options={"runOnly": {"type": "tag", "values": RULES}})
        faults += [f"the palette: {found.generate_report()}"] if found.response["violations"] else []
        assert faults + visit.complaints == []
    assert {"loop", "fleet", "rollouts", "rollouts-new", "reviews", "compare", "gates-one", "audit"} <= set(kinds)


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
async def test_from_the_loop_to_the_audit_trail(
    live: Live, browser_page: Any, size: dict[str, int], scheme: Scheme
) -> None:
    async with browsing(browser_page, live.url, live.token, scheme=scheme, size=size) as visit:
        await see_and_compare(visit)
        await halt_what_is_live(visit, live.made.rollouts[-1])
        made = await plan_and_make(visit)
        await approve_and_start(visit, made)
        await visit.go(f"/rollouts/{made}")
        await visit.page.click("#act-halt summary")
        await visit.page.fill("#reason-halt", "it was a drill")
        await visit.page.click("#act-halt form button")
        await visit.page.wait_for_selector("text=A person wants it halted")
        await visit.go(f"/audit?subject={made}")
        assert "it was a drill" in await visit.page.inner_text("main")
        assert "chain intact" in await visit.page.inner_text("main")
        assert visit.complaints == []


async def see_and_compare(visit: Visit) -> None:
    """See the loop, an event of the field, and two versions side by side; get there by menu and palette."""
    page = visit.page
    for station in ("Field", "Simulation", "Release"):
        await page.wait_for_selector(f"svg text:text-is('{station}') >> visible=true")
    await visit.go("/events")
    await page.click("main tbody tr:first-child a[href^='/events/']")
    await page.wait_for_url("**/events/*")
    await page.keyboard.press("Control+k")
    await page.fill("#palette input", "models")
    await page.wait_for_selector("#found a.chosen >> text=Models")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/models")
    await page.click("main tbody a[href^='/models/']")
    await page.click("text=Compare the newest two")
    await page.wait_for_selector("h2:text('In simulation: nominal')")


async def halt_what_is_live(visit: Visit, rollout: str) -> None:
    await visit.go(f"/rollouts/{rollout}")
    await visit.page.click("#act-halt summary")
    await visit.page.fill("#reason-halt", "room for the next one")
    await visit.page.click("#act-halt form button")
    await visit.page.wait_for_selector("text=A person wants it halted")


async def plan_and_make(visit: Visit) -> str:
    """Plan a rollout, change the plan and see it follow, make it; return its id."""
    page = visit.page
    await visit.go("/rollouts/new")
    await page.click("main tbody tr:first-child >> text=Plan it")
    await page.fill("#w-stages", "50, 100")
    await page.press("#w-stages", "Tab")
    await page.wait_for_selector("#preview th:text('Stage 2 (100 %)')")
    await page.fill("#w-stages", "fifty")
    await page.press("#w-stages", "Tab")
    await page.wait_for_selector("#preview [role=alert]:text(\"'fifty' is no number\")")
    await page.fill("#w-stages", "50, 100")
    await page.press("#w-stages", "Tab")
    await page.wait_for_selector("#preview form")
    for name in ("override-reason", "plan-override"):
        if await page.locator(f"#{name}").count():
            await page.fill(f"#{name}", "a drill")
    await page.check("#preview input[name=preempt]")
    await page.click("text=Make the rollout")
    await page.wait_for_url("**/rollouts/roll_*")
    return str(page.url.rsplit("/", 1)[1])


async def approve_and_start(visit: Visit, rollout: str) -> None:
    """Answer the question about it by keyboard, then start it."""
    page = visit.page
    await visit.go("/reviews")
    waiting = await page.locator(".queued").count()
    await page.keyboard.press("j")
    await page.keyboard.press("a")
    await page.keyboard.type("looked at what it is")
    await page.keyboard.press("Enter")
    await page.wait_for_function(f"document.querySelectorAll('.queued').length === {waiting - 1}")
    await visit.go(f"/rollouts/{rollout}")
    await page.click("#act-start summary")
    await page.fill("#reason-start", "everybody has said yes")
    await page.click("#act-start form button")
    await page.wait_for_selector("#act-start", state="detached")
