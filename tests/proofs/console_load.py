"""Twenty people at live pages while devices check in 2,000 times a second.

The control plane runs as on a machine that people and devices share: one API process for people, one for devices, the
latter with `--real-time` where the operating system lets us (the figures say so), and so does what measures it. People
are in before devices are timed: what they do is compared, not how they come. A rollout is under way. Compared: the p99
of check-ins with and without the people.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from control_plane.cli.simulated_load import Connect, Speaks, Tally, by_socket, drive
from tests.proofs.console_budgets import large_site
from tests.support.live_people import Seen

PEOPLE, CHECK_INS_PER_S, SECONDS, LANES, SPEAKERS = 20, 2_000, 20.0, 64, 5_000
PAGE_MS, WORSE = 300.0, 1.5
ROUNDS = 3
PATHS = ("/", "/fleet", "/rollouts", "{rollout}", "/events", "/reviews", "/models", "/evaluations", "{gate}", "/audit")


@contextmanager
def watching(url: str, token: str, paths: Sequence[str], seen: Seen) -> Iterator[None]:
    """Let people look at pages meanwhile; what they saw is added to `seen`."""
    command = [sys.executable, "-m", "tests.support.live_people", url, str(PEOPLE), str(SECONDS), *paths]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{token}\n")
        process.stdin.flush()
        if process.stdout.readline() != "in\n":
            raise RuntimeError("the people did not get in")
        yield
        found = Seen(**json.loads(process.stdout.read()))
    seen.taken_s += found.taken_s
    seen.bad += found.bad


def may_be_real_time() -> bool:
    """Say whether this machine lets us; tried by a process that ends."""
    script = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    return subprocess.run([sys.executable, "-c", script], stderr=subprocess.DEVNULL, check=False).returncode == 0


def quantile_ms(taken_s: Sequence[float], share: float) -> float:
    found = sorted(taken_s) or [0.0]
    return found[min(int(len(found) * share), len(found) - 1)] * 1e3


async def measured(*, real_time: bool) -> dict[str, Any]:
    async with large_site(speakers=SPEAKERS, real_time=real_time) as (live, voices, home):
        speakers = [voice.speaker(proxied=True) for voice in voices]
        shares = [speakers[lane::LANES] for lane in range(LANES)]
        rollout, gate = f"/rollouts/{live.made.rollouts[-1]}", f"/gates/{live.made.gates[0].id}"
        paths = [path.format(rollout=rollout, gate=gate) for path in PATHS]
        connect = by_socket(home / "proxied.sock")
        check_ins = partial(_check_ins, connect, shares, real_time=real_time)
        await check_ins()  # the first time each shows its certificate
        alone, beside, people = list[float](), list[float](), Seen()
        for _ in range(ROUNDS):
            alone.append((await check_ins()).quantile_ms(0.99))
            with watching(live.url, live.token, paths, people):
                tally = await check_ins()
            beside.append(tally.quantile_ms(0.99))
        return {
            "alone": alone,
            "beside": beside,
            "people": people,
            "per_s": tally.per_s,
            "lost": tally.lost + tally.bad,
        }


async def _check_ins(connect: Connect, shares: Sequence[Sequence[Speaks]], *, real_time: bool) -> Tally:
    """Drive from a thread that waits for its turn no longer than the process that it measures."""

    def drive_first() -> Tally:
        if real_time:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        return drive(connect, shares, SECONDS, rate_per_s=CHECK_INS_PER_S)

    with ThreadPoolExecutor(1) as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, drive_first)


def run() -> Iterator[dict[str, Any]]:
    real_time = may_be_real_time()
    found = asyncio.run(measured(real_time=real_time))
    people, alone, beside = found["people"], sorted(found["alone"])[1], sorted(found["beside"])[1]
    p95 = quantile_ms(people.taken_s, 0.95)
    yield {
        "proof": f"console: pages of {PEOPLE} people beside {CHECK_INS_PER_S} check-ins/s",
        "ok": p95 <= PAGE_MS and not people.bad and found["lost"] == 0,
        "bound": f"p95 at most {PAGE_MS:.0f} ms, none refused",
        "figures": {
            "pages": len(people.taken_s),
            "p50_ms": round(quantile_ms(people.taken_s, 0.5)),
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
            "real_time": real_time,
        },
    }
