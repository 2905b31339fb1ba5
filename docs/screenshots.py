"""Takes a picture of every page of a running installation: `python docs/screenshots.py URL TOKEN [--to DIR]`.

It walks from the menu: every page there, and the first of each kind of page that these link to. Each is taken at
desktop width in light, and as `NAME-phone-dark` at 390 px in dark. Needs chromium and playwright.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
LOOKS = {"": ({"width": 1440, "height": 900}, "light"), "-phone-dark": ({"width": 390, "height": 844}, "dark")}
NUMBER = re.compile(r"^[A-Za-z]*_?[0-9a-zA-Z._-]{6,}$|^\d+$")
SETTLE_MS = 300
TALLEST_PX = 2600


def kind_of(path: str) -> str:
    """Return a page's name without what tells one thing from another: /rollouts/ro_123 is rollouts-one."""
    parts = [part for part in path.split("?", maxsplit=1)[0].strip("/").split("/") if part]
    return "-".join(part if i == 0 or not NUMBER.match(part) else "one" for i, part in enumerate(parts)) or "loop"


def links(page: Page) -> list[str]:
    found: list[str] = page.eval_on_selector_all(
        "main a[href^='/'], .menu a", "all => all.map(a => a.getAttribute('href'))"
    )
    return [href.split("#")[0] for href in found if "?" not in href and not href.endswith((".json", ".mcap"))]


def walk(page: Page, url: str) -> Iterator[tuple[str, str]]:
    """Give (name, path) of one page of each kind."""
    seen, waiting = {"loop"}, ["/"]
    while waiting:
        path = waiting.pop(0)
        yield kind_of(path), path
        page.goto(url + path)
        for href in links(page):
            if kind_of(href) not in seen:
                seen.add(kind_of(href))
                waiting.append(href)


def signed_in(browser: Browser, url: str, token: str, look: tuple[Any, str]) -> Page:
    page = browser.new_page(viewport=look[0], color_scheme=look[1])  # type: ignore[arg-type] # one of two words
    page.goto(f"{url}/login")
    page.fill("#token", token)
    page.click("main button")
    page.wait_for_load_state()
    return page


def take(page: Page, url: str, path: str, file: Path) -> None:
    page.goto(url + path)
    page.wait_for_timeout(SETTLE_MS)
    tall = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST_PX)
    size = page.viewport_size or {"width": 1440, "height": 900}
    page.screenshot(path=file, full_page=True, clip={"x": 0, "y": 0, "width": size["width"], "height": tall})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("token")
    parser.add_argument("--to", type=Path, default=HERE / "pictures" / "console")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        pages = {name: signed_in(browser, given.url, given.token, look) for name, look in LOOKS.items()}
        for kind, path in list(walk(pages[""], given.url)):
            for look, page in pages.items():
                take(page, given.url, path, given.to / f"{kind}{look}.png")
            sys.stdout.write(f"{kind}: {path}\n")
        browser.close()


if __name__ == "__main__":
    main()
