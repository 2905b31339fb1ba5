"""`python -m tests.bench [NAME...] [--report FILE]`: one JSON line per figure on stdout, progress on stderr."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tests.bench import (
    agent,
    check_in,
    clusters,
    console_fleet,
    download,
    episodes,
    identity,
    million,
    overhead,
    rollout,
    signing,
    telemetry,
    trust,
    update,
)
from tests.bench.figure import Figure, say

Bench = Callable[[], Iterable[Figure]]


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.add_argument("--report", type=Path, help="read the overhead from this report of a demo, and run no loop")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benches (default: all)")
    given = parser.parse_args()
    benches: dict[str, Bench] = {
        "check_in": check_in.bench,
        "million": million.bench,
        "identity": identity.bench,
        "signing": signing.bench,
        "telemetry": telemetry.bench,
        "download": download.bench,
        "agent": agent.bench,
        "update": update.bench,
        "trust": trust.bench,
        "rollout": rollout.bench,
        "console_fleet": console_fleet.bench,
        "episodes": episodes.bench,
        "clusters": clusters.bench,
        "overhead": partial(overhead.bench, given.report),
    }
    unknown = set(given.names) - set(benches)
    if unknown:
        parser.error(f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(benches)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything we started is stopped
    for name in given.names or benches:
        begun = time.monotonic()
        for figure in benches[name]():
            figure.print()
        say(f"{name}: {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
