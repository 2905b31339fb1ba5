"""One API process with a million devices in its memory, against the same with a thousand.

Measured: check-ins per second through the proxied listener, of devices that are spread over the whole fleet: all of the
thousand, and 20,000 of the million. Ceiling of `check_in_million` is the bare app by the same listener (see
`check_in`), that of `million_against_1k` the process with a thousand: its ratio says how much fleet size costs.
`million_memory` is what the process with a million holds more than the one with a thousand, per million devices; its
floor is what the identifiers and key digests of a million devices take as bytes alone.
"""

from collections.abc import Iterable
from statistics import median

import psutil

from control_plane.cli.simulated_fleet import Plan
from tests.bench.check_in import ANSWER_BYTES, LANES
from tests.bench.figure import Figure, cost, rate
from tests.bench.fleet import Speaking, Target, api, bare, made, speaking
from tests.bench.stage import installation

FEW, DEVICES, SPEAKERS = 1_000, 1_000_000, 20_000
ROUNDS, SECONDS = 5, 2.5
CLASSES, SITES = ["cart", "arm"], [f"site-{number}" for number in range(50)]
BYTES_OF_A_NAME = len("sim_00000000") + 32


def bench() -> Iterable[Figure]:
    with installation() as stack:
        few = speaking("proxied", made(stack, Plan(FEW, FEW, CLASSES, SITES)), stack, LANES)
        with api(stack, "thousand") as small:
            plan = Plan(DEVICES - FEW, SPEAKERS, CLASSES, SITES, first=FEW)
            many = speaking("proxied", made(stack, plan), stack, LANES)
            with api(stack, "million") as large, bare(stack, "proxied", ANSWER_BYTES) as ceiling:
                yield from _measured(small, few, large, many, ceiling)


def _measured(small: Target, few: Speaking, large: Target, many: Speaking, ceiling: Target) -> Iterable[Figure]:
    small.run(few, 3.0)
    large.run(many, 10.0)  # each of the 20,000 shows its certificate for the first time
    of_bare, of_few, of_many = [], [], []
    for _ in range(ROUNDS):
        of_bare.append(ceiling.run(many, SECONDS))
        of_few.append(small.run(few, SECONDS))
        of_many.append(large.run(many, SECONDS))
    note = f"{LANES} connections, {SPEAKERS} of {DEVICES} devices, p99 {median(each.p99_ms for each in of_many):.0f} ms"
    yield rate("check_in_million", [e.per_s for e in of_many], [e.per_s for e in of_bare], "check-ins/s", note)
    unit = "check-ins/CPU-s of the server"
    yield rate("check_in_million_cpu", [e.per_cpu_s for e in of_many], [e.per_cpu_s for e in of_bare], unit)
    yield rate("million_against_1k", [e.per_s for e in of_many], [e.per_s for e in of_few], "check-ins/s")
    yield rate("million_against_1k_cpu", [e.per_cpu_s for e in of_many], [e.per_cpu_s for e in of_few], unit)
    rss = [psutil.Process(each.pid).memory_info().rss for each in (small, large)]
    more = (rss[1] - rss[0]) / (DEVICES - FEW) * 1e6
    note = f"the whole process: {rss[1] / 1e6:.0f} MB with {DEVICES} devices, {rss[0] / 1e6:.0f} MB with {FEW}"
    yield cost("million_memory", more / 1e6, BYTES_OF_A_NAME * 1.0, "MB per million devices", note)
