"""Takes a picture of every page: `python -m tests.browser.pictures [--to DIR] [--url URL --token TOKEN]`.

Without an address it seeds an installation of its own. Each page is taken at desktop width in light and, as
NAME-phone-dark, at 390 px in dark; tall ones are cut.
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

from control_plane.kit.embedded import EmbeddedPostgres
from control_plane.migrations.upgrade import upgrade
from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.browser.site import open_site
from tests.browser.walk import DESKTOP, PHONE, Visit, browsing, walk

HERE = Path(__file__).parents[2] / "docs" / "pictures" / "console"
Scheme = Literal["light", "dark"]
LOOKS: dict[str, tuple[dict[str, int], Scheme]] = {"": (DESKTOP, "light"), "-phone-dark": (PHONE, "dark")}
SETTLE_MS = 400
TALLEST_PX = 1900
QUALITY = 78


async def take_all(url: str, token: str, folder: Path) -> int:
    """Take every page in every look; return how many pages there were."""
    how = {"executable_path": CHROMIUM, "args": ARGUMENTS}
    async with AsyncExitStack() as stack:
        visits = {
            name: await stack.enter_async_context(browsing(how, url, token, size=size, scheme=scheme))
            for name, (size, scheme) in LOOKS.items()
        }
        guide = await stack.enter_async_context(browsing(how, url, token))
        pages = [found async for found in walk(guide)]
        for kind, path in pages:
            for look, visit in visits.items():
                await _take(visit, path, folder / f"{kind}{look}.jpg")
            sys.stdout.write(f"{kind}: {path}\n")
    return len(pages)


async def _take(visit: Visit, path: str, file: Path) -> None:
    page: Any = visit.page
    await visit.go(path)
    await page.wait_for_timeout(SETTLE_MS)
    tall = min(await page.evaluate("document.documentElement.scrollHeight"), TALLEST_PX)
    clip = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": tall}
    await page.screenshot(path=file, full_page=True, clip=clip, type="jpeg", quality=QUALITY)


async def _seeded(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fl-site-") as home:
        server = EmbeddedPostgres(Path(home) / "postgres")
        try:
            await asyncio.to_thread(upgrade, server.url)
            async with open_site(server.url, Path(home) / "home") as live:
                await take_all(live.url, live.token, folder)
        finally:
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=HERE)
    parser.add_argument("--url")
    parser.add_argument("--token")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    if CHROMIUM is None:
        parser.error("there is no chromium here: apt-get install chromium")
    asyncio.run(take_all(given.url, given.token, given.to) if given.url else _seeded(given.to))


if __name__ == "__main__":
    main()
