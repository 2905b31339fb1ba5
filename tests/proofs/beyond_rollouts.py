"""Rollouts go on while every process is restarted in turn, and devices beside theirs check in 1,000 times a second.

The rollouts are those of `evidence_chaos`: good and harmful releases by turns, on devices that obey and drive. What
comes out must be what comes out undisturbed, and the evidence what the devices told, to the metre and to the event.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from control_plane.cli.simulated_fleet import Plan, make, shares
from tests.proofs.evidence_chaos import all_told, otherwise, play
from tests.support.chaos import PROGRAMS, Plant
from tests.support.patient import Lane

DEVICES, PER_S, LANES = 2_000, 1_000, 16
SECONDS, PAUSE_S = 60.0, 4.0


class Rolling:
    """Restarts and load together; `told` is what the devices beside saw."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []

    async def __call__(self, plant: Plant, stop: asyncio.Event) -> None:
        plan = Plan(DEVICES, DEVICES, ["drone"], ["yard"])
        voices = await make(plant.url, plant.home / "keys" / "device-ca.pem", "fleetloop", plan, lambda _: None)
        replicas = [plant.home / f"{number}.sock" for number in (1, 2)]
        spoken = shares(voices, LANES, 0.0, proxied=True)
        self.lanes = [Lane(share, replicas, PER_S / LANES, number) for number, share in enumerate(spoken)]
        for lane in self.lanes:
            lane.start()
        await plant.restart_in_turn(PAUSE_S, stop)
        for lane in self.lanes:
            lane.ends.set()
        for lane in self.lanes:
            await asyncio.to_thread(lane.join, 60)


def run(seconds: float = SECONDS) -> Iterator[dict[str, Any]]:
    rolling = Rolling()
    with tempfile.TemporaryDirectory(prefix="fl-calm-") as folder:
        calm = asyncio.run(play(Path(folder), 0.0))
    with tempfile.TemporaryDirectory(prefix="fl-roll-") as folder:
        wild = asyncio.run(play(Path(folder), seconds, rolling))
    yield from lines(calm, wild, rolling)


def lines(calm: dict[str, Any], wild: dict[str, Any], rolling: Rolling) -> Iterator[dict[str, Any]]:
    told = [lane.told for lane in rolling.lanes]
    failed, refused = sum(each.failed for each in told), sum(len(each.refused) for each in told)
    restarts, plant, others = wild["killed"], wild["plant"], otherwise(calm, wild)
    yield {
        "proof": "beyond: rollouts over restarts of every process in turn, beside 1,000 check-ins a second",
        "ok": not others and failed == refused == 0 and set(restarts) == set(PROGRAMS),
        "bound": "every rollout ends as it does undisturbed; no check-in fails or is refused",
        "figures": {
            "rollouts": len(wild["outcome"]),
            "otherwise": others,
            "restarts": sum(restarts.values()),
            "check_ins": sum(each.check_ins for each in told),
            "came_again": sum(each.again for each in told),
            "failed": failed,
            "refused": refused,
        },
    }
    yield {
        "proof": "beyond: evidence over these restarts",
        "ok": all_told(plant) and plant["different"] == 0 and plant["decisions"] > 0 and plant["audit"],
        "bound": "windows, cells and totals are what devices told; decisions made again are the same",
        "figures": plant["told"] | {"decisions": plant["decisions"], "different": plant["different"]},
    }


if __name__ == "__main__":
    for said in run(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS):
        print(json.dumps(said), flush=True)
