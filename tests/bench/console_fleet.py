"""The fleet page of a large fleet: every filter with every sorting, the next page of each, the plan and a device.

Measured: what a browser waits for a page (one after the other, over one connection), with counts that are not kept from
the page before; of three rounds the median. `console_fleet_*` is the slowest of all filters and sortings, its note says
which; goals are 100 ms with 100,000 devices and 300 ms with a million. The floor of each figure is a signed-in page
that shows nothing.
"""

import asyncio
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from statistics import median

import httpx

from control_plane.cli.stack import Stack
from control_plane.kit.db import Database
from control_plane.web.look import SORTS
from control_plane.web.pages.fleet import COUNTS_S
from tests.bench.figure import Figure, cost, say
from tests.bench.stage import installation
from tests.support.varied_fleet import CONTENTS, fall_silent, fill

SIZES = {"100k": (100_000, 100.0), "1m": (1_000_000, 300.0)}
SITES, ROUNDS = 50, 3
FILTERS = (
    {},
    {"site": "site-07"},
    {"class": "arm"},
    {"version": CONTENTS[0]},
    {"version": CONTENTS[2]},
    {"version": "none"},
    {"health": "ok"},
    {"health": "failed"},
    {"health": "quarantined"},
    {"waiting": "moving"},
    {"site": "site-49", "health": "failed"},
    {"class": "arm", "health": "ok", "version": CONTENTS[0]},
    {"class": "cart", "waiting": "waiting_site"},
    {"q": "sim_00012345"},
    {"q": "sim_0000"},
    {"q": "sim_"},
    {"q": "sim_", "site": "site-49"},
    {"q": "nobody"},
)
Times = dict[str, list[float]]


def bench() -> Iterable[Figure]:
    for size, (devices, goal_ms) in SIZES.items():
        with installation(worker=True) as stack:
            asyncio.run(_fill(stack, devices))
            with _browser(stack) as browser:
                yield from _measured(browser, size, goal_ms)


async def _fill(stack: Stack, devices: int) -> None:
    begun = time.monotonic()
    database = Database(stack.database_url or "", pool_size=2)
    await fill(database, devices, SITES)
    async with database.transaction() as session:
        await fall_silent(session, 1000)
    for table in ("fleet_device", "fleet_listing", "fleet_facet"):
        async with database.engine.connect() as connection:
            plain = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await plain.exec_driver_sql(f"vacuum analyze {table}")
    await database.close()
    say(f"{devices} devices of every kind made in {time.monotonic() - begun:.0f} s")


@contextmanager
def _browser(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as browser:
        browser.post("/login", data={"token": stack.tokens["admin"]})
        yield browser


def _measured(browser: httpx.Client, size: str, goal_ms: float) -> Iterable[Figure]:
    times: Times = {}
    floor = median(_ms(browser, "/nowhere", 404)[0] for _ in range(20))
    for _ in range(ROUNDS):
        for sort, way in product(SORTS, ("", "-")):
            _round(browser, f"{way}{sort}", times)
    medians = {name: median(values) for name, values in times.items()}
    worst = max(medians, key=lambda name: medians[name])
    note = f"goal {goal_ms:.0f} ms; {len(medians)} pages, median {median(medians.values()):.0f} ms; slowest: {worst}"
    yield cost(f"console_fleet_{size}", medians[worst], floor, "ms", note)
    for name, path in (
        ("plan", "/fleet/plan"),
        ("site", "/fleet/plan?site=site-07"),
        ("device", "/fleet/sim_00000007"),
    ):
        values = []
        for _ in range(ROUNDS):
            time.sleep(COUNTS_S * 1.5)
            values.append(_ms(browser, path)[0])
        yield cost(f"console_{name}_{size}", median(values), floor, "ms")


def _round(browser: httpx.Client, sort: str, times: Times) -> None:
    """Ask for every filter and the page after it; then wait until no count is kept any more."""
    for wanted in FILTERS:
        asked = httpx.QueryParams({**wanted, "sort": sort})
        taken, text = _ms(browser, f"/fleet?{asked}")
        times.setdefault(f"/fleet?{asked}", []).append(taken)
        following = re.search(r'href="([^"]+)" rel="next"', text)
        if following:
            taken, _ = _ms(browser, following[1].replace("&amp;", "&"))
            times.setdefault(f"the page after /fleet?{asked}", []).append(taken)
    time.sleep(COUNTS_S)


def _ms(browser: httpx.Client, path: str, status: int = 200) -> tuple[float, str]:
    begun = time.perf_counter()
    answer = browser.get(path)
    taken = 1e3 * (time.perf_counter() - begun)
    if answer.status_code != status:
        raise RuntimeError(f"{path} answers {answer.status_code}")
    return taken, answer.text
