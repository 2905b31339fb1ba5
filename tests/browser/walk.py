"""How a browser gets about the pages: sign in, and visit one page of every kind there is."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
NUMBER = re.compile(r"^[A-Za-z]*_?[0-9a-zA-Z._-]{6,}$|^\d+$")
FILES = (".json", ".mcap", ".jsonl", ".csv")
WAY_OUT = re.compile(r"^/log(in|out)|^/recordings/[^/]+/(open|file)\b")


@dataclass
class Visit:
    """An open page; `complaints` are errors of its console, and requests that left the server."""

    page: Any
    url: str
    complaints: list[str] = field(default_factory=list)

    async def go(self, path: str) -> Any:
        answer = await self.page.goto(self.url + path)
        assert answer.status == 200, (path, answer.status)
        return answer


@asynccontextmanager
async def browsing(
    how: Any,
    url: str,
    token: str,
    *,
    scheme: Literal["light", "dark"] = "light",
    size: dict[str, int] | None = None,
    scripts: bool = True,
) -> AsyncIterator[Visit]:
    """Sign in with a token, and give the page."""
    from playwright.async_api import async_playwright  # noqa: PLC0415 - absent where this is skipped

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**how)
        context = await browser.new_context(
            color_scheme=scheme, viewport=size or DESKTOP, java_script_enabled=scripts, base_url=url
        )
        visit = Visit(await context.new_page(), url)
        _listen(visit)
        await visit.page.goto(f"{url}/login")
        await visit.page.fill("#token", token)
        await visit.page.click("main button")
        await visit.page.wait_for_url(f"{url}/")
        yield visit
        await browser.close()


def _listen(visit: Visit) -> None:
    host = urlsplit(visit.url).netloc
    page, complaints = visit.page, visit.complaints
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: complaints.append(asked.url) if urlsplit(asked.url).netloc != host else None)


def kind_of(path: str) -> str:
    """Return a page's name without what tells one thing from another: /rollouts/roll_0123 is rollouts-one."""
    parts = [part for part in urlsplit(path).path.strip("/").split("/") if part]
    if parts[:1] == ["lineage"]:
        return "lineage"  # the same page, whatever it is the lineage of
    return "-".join(part if i == 0 or not NUMBER.match(part) else "one" for i, part in enumerate(parts)) or "loop"


async def walk(visit: Visit) -> AsyncIterator[tuple[str, str]]:
    """Give (name, path) of one page of each kind, which is open then."""
    seen, waiting = {"loop"}, ["/"]
    while waiting:
        path = waiting.pop(0)
        await visit.go(path)
        yield kind_of(path), path
        await visit.go(path)
        for href in await _links(visit.page):
            if kind_of(href) not in seen:
                seen.add(kind_of(href))
                waiting.append(href)


async def _links(page: Any) -> list[str]:
    found: list[str] = await page.eval_on_selector_all(
        "main a[href^='/'], .menu a", "all => all.map(a => a.getAttribute('href').split('#')[0])"
    )
    plain = [href for href in found if not urlsplit(href).path.endswith(FILES) and not WAY_OUT.search(href)]
    return [href for href in plain if "?" not in href or href.startswith(("/compare?", "/rollouts/new?"))]
