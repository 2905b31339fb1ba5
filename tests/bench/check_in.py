"""Check-ins per second of one API process with its PostgreSQL, as devices come: through a proxy, and by TLS.

Measured: check-ins of many devices of a quiet fleet (an active release, spool counts, facts of the platform) over
kept-alive connections; every one is authenticated by its certificate, judged for freshness, answered with a manifest
signed for it, and its sign of life is written within seconds. Ceiling: the bare ASGI app (tests/bench/bare.py), which
reads the same bytes from the same client by the same kind of listener (the API's own, with its protocol class) and
answers as many bytes: what HTTP in Python costs here before we do anything. It can never be reached: the process that
signs, PostgreSQL and the client share the other core. `..._cpu` compares only what the two server processes spent,
which says more on a machine that others use too.
"""

from collections.abc import Iterable
from statistics import median
from uuid import uuid4

from control_plane.cli.simulated_fleet import Plan
from tests.bench.figure import Figure, rate, say
from tests.bench.fleet import api, bare, made, speaking
from tests.bench.rounds import Rounds, cpu_s
from tests.bench.stage import CONTENT, Device, dumps, installation

DEVICES, LANES, TLS_LANES = 1000, 256, 64
WARM_UP_S, ROUNDS, SECONDS = 3.0, 5, 2.5
ANSWER_BYTES = 606


def message(boot: str, seq: int) -> bytes:
    return dumps(
        {
            "boot_id": boot,
            "seq": seq,
            "nonce": uuid4().hex,
            "sent_at": "2026-01-01T00:00:00Z",
            "agent_version": "0.1.0",
            "active": {"release_digest": "d" * 64, "content_digest": CONTENT, "counter": 7},
            "deployment": {"release_digest": "d" * 64, "counter": 7, "phase": "committed"},
            "counter_floor": 7,
            "spool": {"windows": 0, "events": 0, "bytes": 4096, "outbox_files": 0, "outbox_bytes": 0},
            "platform": {"machine": "aarch64", "kernel": "5.15.148-tegra", "cores": 8, "memory_mb": 15655},
        }
    )


def lanes_of(devices: list[Device], seqs: range) -> list[list[bytes]]:
    """Give each lane its devices' check-ins by turns, in order of seq."""
    say(f"check_in: signing {len(devices) * len(seqs)} check-ins ahead")
    lanes: list[list[bytes]] = [[] for _ in range(LANES)]
    for seq in seqs:
        for number, device in enumerate(devices):
            body = message(f"b-{device.id}"[:60], seq)
            lanes[number % LANES].append(device.request("POST", "/device/v1/check-in", body))
    return lanes


def bench() -> Iterable[Figure]:
    with installation() as stack:
        voices = made(stack, Plan(DEVICES, DEVICES, ["bench"], ["north", "south"]))
        for kind, who in (("tls", voices[:TLS_LANES]), ("proxied", voices[TLS_LANES:])):
            lanes = TLS_LANES if kind == "tls" else LANES
            speak = speaking(kind, who, stack, lanes)
            with api(stack, kind) as ours, bare(stack, kind, ANSWER_BYTES) as ceiling:
                ours.run(speak, WARM_UP_S)
                rounds = [(ceiling.run(speak, SECONDS), ours.run(speak, SECONDS)) for _ in range(ROUNDS)]
            name = "check_in" if kind == "proxied" else "check_in_tls"
            note = f"{lanes} connections, {len(who)} devices, p99 {median(each.p99_ms for _, each in rounds):.0f} ms"
            yield rate(name, *([each[i].per_s for each in rounds] for i in (1, 0)), "check-ins/s", note)
            unit = "check-ins/CPU-s of the server"
            yield rate(f"{name}_cpu", *([each[i].per_cpu_s for each in rounds] for i in (1, 0)), unit)


def one_round(
    rounds: Rounds, port: int, pid: int, seconds: float = SECONDS, *, wrap: bool = False
) -> tuple[float, float, float]:
    """Return check-ins per second, check-ins per CPU-second of the server process, and the p99 in ms."""
    before = cpu_s(pid)
    result = rounds.run(port, seconds, wrap=wrap)
    return result["done"] / result["seconds"], result["done"] / (cpu_s(pid) - before), result["p99_ms"]
