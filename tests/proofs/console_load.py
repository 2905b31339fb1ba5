"""Twenty people at live pages while devices check in 2,000 times a second, all on one API process.

Each person keeps a page open as the browser does: the stream of changes, and the page again whenever it says so. A
rollout moves all the time, so it says so often. Compared: the p99 of check-ins with and without the people.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from control_plane.cli.simulated_load import Tally, by_socket, drive
from tests.proofs.console_budgets import large_site

PEOPLE, CHECK_INS_PER_S, SECONDS, LANES, SPEAKERS = 20, 2_000, 20.0, 64, 5_000
PAGE_MS, WORSE = 300.0, 1.5
ROUNDS = 3
PATHS = ("/", "/fleet", "/rollouts", "{rollout}", "/events", "/reviews", "/models", "/evaluations", "{gate}", "/audit")


@dataclass
class People:
    """What the people saw: seconds of every page they were given."""

    url: str
    token: str
    paths: list[str]
    taken_s: list[float] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    async def watch(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _, path in zip(range(PEOPLE), itertools.cycle(self.paths), strict=False):
                group.create_task(self._one(path, until))

    async def _one(self, path: str, until: float) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as http:
            await http.post("/login", data={"token": self.token})
            await self._page(http, path)
            async with http.stream("GET", "/live") as stream:
                async for line in stream.aiter_lines():
                    if time.monotonic() > until:
                        return
                    if line.startswith("data: ") and line != "data: ":
                        await self._page(http, path)

    async def _page(self, http: httpx.AsyncClient, path: str) -> None:
        begun = time.perf_counter()
        answer = await http.get(path, headers={"HX-Request": "true"})
        self.taken_s.append(time.perf_counter() - begun)
        if answer.status_code != 200:
            self.bad.append(f"{path}: {answer.status_code}")

    def quantile_ms(self, share: float) -> float:
        found = sorted(self.taken_s) or [0.0]
        return found[min(int(len(found) * share), len(found) - 1)] * 1e3


async def measured() -> dict[str, Any]:
    async with large_site(speakers=SPEAKERS) as (live, voices, home):
        speakers = [voice.speaker(proxied=True) for voice in voices]
        shares = [speakers[lane::LANES] for lane in range(LANES)]
        rollout, gate = f"/rollouts/{live.made.rollouts[-1]}", f"/gates/{live.made.gates[0].id}"
        paths = [path.format(rollout=rollout, gate=gate) for path in PATHS]
        connect = by_socket(home / "proxied.sock")

        async def check_ins() -> Tally:
            return await asyncio.to_thread(drive, connect, shares, SECONDS, rate_per_s=CHECK_INS_PER_S)

        await check_ins()  # the first time each shows its certificate
        alone, beside, people = list[float](), list[float](), People(live.url, live.token, paths)
        for _ in range(ROUNDS):
            alone.append((await check_ins()).quantile_ms(0.99))
            tally, _ = await asyncio.gather(check_ins(), people.watch(SECONDS))
            beside.append(tally.quantile_ms(0.99))
        return {
            "alone": alone,
            "beside": beside,
            "people": people,
            "per_s": tally.per_s,
            "lost": tally.lost + tally.bad,
        }


def run() -> Iterator[dict[str, Any]]:
    found = asyncio.run(measured())
    people, alone, beside = found["people"], sorted(found["alone"])[1], sorted(found["beside"])[1]
    p95 = people.quantile_ms(0.95)
    yield {
        "proof": f"console: pages of {PEOPLE} people beside {CHECK_INS_PER_S} check-ins/s",
        "ok": p95 <= PAGE_MS and not people.bad and found["lost"] == 0,
        "bound": f"p95 at most {PAGE_MS:.0f} ms, none refused",
        "figures": {
            "pages": len(people.taken_s),
            "p50_ms": round(people.quantile_ms(0.5)),
            "p95_ms": round(p95),
            "refused": len(people.bad),
            "check_ins_per_s": round(found["per_s"]),
        },
    }
    yield {
        "proof": "console: check-ins beside people at live pages",
        "ok": beside <= WORSE * alone,
        "bound": f"p99 at most {WORSE} times that without them (medians of {ROUNDS} rounds)",
        "figures": {
            "alone_p99_ms": round(alone, 1),
            "beside_p99_ms": round(beside, 1),
            "ratio": round(beside / alone, 2),
        },
    }
