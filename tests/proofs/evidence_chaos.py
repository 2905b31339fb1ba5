"""Two API processes and two workers on one database, killed -9 at random for ten minutes of rollouts.

Forty devices behind a proxied port check in, obey and drive. A good release goes to all of them in two stages, then a
harmful one is halted and taken back, round after round. What comes out must be what comes out undisturbed: every good
release done, every harmful one halted, every device where it belongs; no metre and no event of acknowledged telemetry
lost or counted twice, in windows, cells and totals; tallies equal to a count; the audit chain whole; every kept
decision the same when made again.

`python -m tests.proofs.evidence_chaos [SECONDS]`
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from control_plane.kit.roles import Role
from tests.support.chaos import Plant, Robot, enrol_robot, open_plant
from tests.support.registry import register, release

DEVICES, METRES = 40, 50.0
SECONDS, CALM_ROUNDS = 600.0, 1
EVERY_S = (1.0, 6.0)
ROUND_S = 300.0
WHY = "a proof"
GOOD, BAD, USUAL = 0.05, 1.2, 0.10  # incidents in a window
PLAN = {
    # A harmless release may be halted in `alpha` of cases; of fifty rollouts none is to be, so that any is a fault.
    "alpha": 1e-4,
    "stages": [
        {"fraction": 0.25, "min_exposure": 4000, "max_exposure": 1e9, "must_prove": False},
        {"fraction": 1.0, "must_prove": False},
    ],
    "gravest": "off",
    "silence_s": 120,
    "returns": [0.5, 1.0],
}


Disturb = Callable[[Plant, asyncio.Event], Awaitable[None]]


@dataclass
class Fleet:
    plant: Plant
    robots: list[Robot]
    rng: random.Random
    contents: dict[str, str] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    outcome: list[tuple[str, str, str]] = field(default_factory=list)
    because: list[str] = field(default_factory=list)
    scale: float = 2.0

    async def version(self, rate: float) -> str:
        self.scale += 1.0
        made = await register(self.plant.server, self.scale)
        content = str(made["content_digest"])
        self.rates[content] = rate
        return content

    async def roll(self, content: str, **plan: Any) -> str:
        made = await release(self.plant.server, content)
        body = {
            "release": made["digest"],
            "plan": PLAN | plan,
            "override_reason": "a proof",
            "plan_override": "a proof",
        }
        item = await self.plant.server.ok("POST", "/rollouts", Role.OPERATOR, json=body)
        for review in (await self.plant.server.ok("GET", "/reviews?state=open&limit=500"))["items"]:
            if review["subject"] == made["digest"]:
                answer = {"approves": True, "reason": "a proof"}
                await self.plant.server.call("POST", f"/reviews/{review['id']}/answers", Role.APPROVER, json=answer)
        return str(item["id"])

    async def live(self) -> None:
        known = await self.plant.server.ok("GET", "/releases")
        self.contents |= {item["digest"]: item["content_digest"] for item in known}
        await asyncio.gather(*(self._one(robot) for robot in self.robots))

    async def _one(self, robot: Robot) -> None:
        await robot.obey(self.contents)
        content = robot.active["content_digest"] if robot.active else ""
        rate = self.rates.get(content, 0.0)
        await robot.tell(METRES, sum(self.rng.random() < rate / 4 for _ in range(4)))

    async def until_ended(self, name: str, rollout_id: str, content: str) -> None:
        """Live until a rollout has come to its end and devices are where it leaves them."""
        give_up = time.monotonic() + ROUND_S
        while True:
            await self.live()
            item = await self.plant.server.ok("GET", f"/rollouts/{rollout_id}")
            if item["phase"] in ("done", "halted", "withdrawn"):
                break
            if item["phase"] == "held" or time.monotonic() > give_up:
                raise TimeoutError(f"{name} {item['phase']}: {item['because']}")
        wanted = content if item["phase"] == "done" else item["champion"]
        while not all(robot.active and robot.active["content_digest"] == wanted for robot in self.robots):
            if time.monotonic() > give_up:
                raise TimeoutError(f"{name}: devices do not come to what they should run")
            await self.live()
        self.outcome.append((name, item["phase"], "all where they belong"))
        self.because.append(item["because"])

    async def round(self) -> None:
        good = await self.version(GOOD)
        await self.until_ended("good", await self.roll(good), good)
        bad = await self.version(BAD)
        await self.until_ended("bad", await self.roll(bad), bad)


async def kill(plant: Plant, stop: asyncio.Event) -> None:
    await plant.kill_at_random(EVERY_S, stop)


async def play(folder: Path, seconds: float, disturb: Disturb | None = None) -> dict[str, Any]:
    """Go round with good and harmful releases for so long while `disturb` does what it does; return what came out."""
    async with open_plant(folder, seed=5) as plant:
        robots = [await enrol_robot(plant, number) for number in range(DEVICES)]
        fleet, stop = Fleet(plant, robots, random.Random(9)), asyncio.Event()
        first = await fleet.version(USUAL)
        everyone = {"stages": [{"fraction": 1.0, "must_prove": False}]}
        await fleet.until_ended("first", await fleet.roll(first, **everyone), first)
        begun = time.monotonic()
        disturbed = asyncio.create_task(disturb(plant, stop)) if disturb else None
        rounds = 0
        while rounds < CALM_ROUNDS or time.monotonic() - begun < seconds:
            await fleet.round()
            rounds += 1
        stop.set()
        if disturbed is not None:
            await disturbed
        lived = time.monotonic() - begun
        return {
            "rounds": rounds,
            "seconds": lived,
            "outcome": fleet.outcome,
            "because": fleet.because,
            "plant": await look(fleet),
            "killed": plant.killed,
        }


async def look(fleet: Fleet) -> dict[str, Any]:
    """Compare what the server holds with what devices did."""
    server = fleet.plant.server
    audit = await server.ok("GET", "/audit/check")
    rollouts = (await server.ok("GET", "/rollouts?limit=200"))["items"]
    replays = [await server.ok("POST", f"/rollouts/{item['id']}/replay") for item in rollouts]
    connection = await asyncpg.connect(fleet.plant.url)
    try:
        sums = {name: dict(await connection.fetchrow(query)) for name, query in SUMS.items()}
        strays = await connection.fetchval(STRAYS)
    finally:
        await connection.close()
    told = {"m": sum(r.driven_m for r in fleet.robots), "events": sum(r.counted for r in fleet.robots)}
    return {
        "audit": audit["intact"],
        "entries": audit["entries"],
        "told": told,
        "sums": sums,
        "strays": strays,
        "decisions": sum(each["decisions"] for each in replays),
        "different": sum(each["different"] for each in replays),
    }


SUMS = {
    "windows": """select coalesce(sum(distance_m), 0) as m,
        coalesce(sum((counts ->> 'near_miss')::bigint), 0)::bigint as events from telemetry_window""",
    "cells": """select coalesce(sum(distance_mm), 0) / 1000.0 as m,
        coalesce(sum((counts ->> 'near_miss')::bigint), 0)::bigint as events from telemetry_cell""",
    "totals": """select coalesce(sum(distance_mm), 0) / 1000.0 as m,
        coalesce(sum((counts ->> 'near_miss')::bigint), 0)::bigint as events from telemetry_total""",
    "devices": """select coalesce(sum(distance_mm), 0) / 1000.0 as m,
        coalesce(sum((counts ->> 'near_miss')::bigint), 0)::bigint as events from telemetry_device_sum""",
}
STRAYS = """
select count(*) from (
    select rollout_id, site, device_class, standing, count(*)::bigint as n from rollout_deployment group by 1, 2, 3, 4
    except select rollout_id, site, device_class, standing, devices from rollout_tally where devices <> 0) as strays
"""


def run(seconds: float = SECONDS) -> Iterator[dict[str, Any]]:
    found = {}
    for name, disturb in (("undisturbed", None), ("killed", kill)):
        with tempfile.TemporaryDirectory(prefix="fl-chaos-") as folder:
            found[name] = asyncio.run(play(Path(folder), seconds if disturb else 0.0, disturb))
    yield from lines(found["undisturbed"], found["killed"])


def otherwise(calm: dict[str, Any], wild: dict[str, Any]) -> list[str]:
    """Say which rollouts ended otherwise than undisturbed, and why."""
    expected = calm["outcome"][:1] + calm["outcome"][1:3] * wild["rounds"]
    ends = zip(wild["outcome"], expected, wild["because"], strict=True)
    return [f"{what[0]}: {because}" for what, wanted, because in ends if what != wanted]


def all_told(plant: dict[str, Any]) -> bool:
    """Say whether every sum that is kept is what devices told, in metres and in events."""
    told = plant["told"]
    return all(abs(float(s["m"]) - told["m"]) < 0.01 and s["events"] == told["events"] for s in plant["sums"].values())


def lines(calm: dict[str, Any], wild: dict[str, Any]) -> Iterator[dict[str, Any]]:
    def line(what: str, bound: str, ok: bool, **figures: Any) -> dict[str, Any]:
        return {"proof": f"under fire: {what}", "ok": bool(ok), "bound": bound, "figures": figures}

    kills = sum(wild["killed"].values())
    rounds, seconds = wild["rounds"], round(wild["seconds"])
    yield line(
        "processes killed", "each of four", len(wild["killed"]) == 4, kills=kills, seconds=seconds, rounds=rounds
    )
    others = otherwise(calm, wild)
    figures = {"rollouts": len(wild["outcome"]), "otherwise": others}
    yield line("every rollout ends as it does undisturbed", "equal", not others, **figures)
    plant = wild["plant"]
    told = plant["told"]
    yield line("acknowledged telemetry in windows, cells, totals, device sums", "equal", all_told(plant), **told)
    yield line("tallies that differ from a count", "0", plant["strays"] == 0, differ=plant["strays"])
    yield line("audit chain intact", "yes", plant["audit"], entries=plant["entries"])
    both = {"decisions": plant["decisions"], "different": plant["different"]}
    yield line("decisions made again", "0 different", plant["different"] == 0 and plant["decisions"] > 0, **both)


if __name__ == "__main__":
    for said in run(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS):
        print(json.dumps(said), flush=True)
