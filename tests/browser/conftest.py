"""A seeded server in a process of its own, and a browser; both are skipped where they cannot be."""

import importlib.util
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.site import Live, open_site

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
async def live(database_url: str, tmp_path: Path) -> AsyncIterator[Live]:
    async with open_site(database_url, tmp_path) as site:
        yield site


@pytest.fixture
def browser_page() -> dict[str, Any]:
    """Return how to launch the browser, where there is one."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: pip install playwright")
    return {"executable_path": CHROMIUM, "args": ARGUMENTS}
