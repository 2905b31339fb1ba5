"""Check-ins per second of one API process with its PostgreSQL.

Measured: real signed check-ins of many enrolled devices of a quiet fleet (an active release, spool counts, facts of
the platform) over kept-alive connections; every one is authenticated, judged for freshness, written, and answered with
a manifest signed for it. Ceiling: the bare ASGI app (tests/bench/bare.py), which reads the same bytes from the same
client under the same uvicorn and answers as many bytes: what HTTP in Python costs here before we do anything.
It can never be reached, because a check-in is a transaction: PostgreSQL's share of the same cores is in the value.
`check_in_cpu` compares only what the two server processes spent, which says more on a machine that others use too.
"""

from collections.abc import Iterable
from statistics import median
from uuid import uuid4

from control_plane.cli.processes import free_port
from tests.bench.figure import Figure, rate, say
from tests.bench.rounds import Rounds, bare_server, cpu_s, rounds_of
from tests.bench.stage import CONTENT, Device, dumps, enrol, installation

DEVICES, LANES = 64, 32
WARM_UP = 100  # check-ins of each device; the warm-up says how many the rounds will need
ROUNDS, SECONDS = 5, 2.5


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
        devices, port = enrol(stack, DEVICES), free_port()
        with rounds_of(lanes_of(devices, range(WARM_UP))) as rounds:
            rounds.run(stack.port, 0.5)  # the devices become known, the statements prepared
            warm = rounds.run(stack.port, 1.5)
        needed = 1.5 * SECONDS * ROUNDS * warm["done"] / warm["seconds"] / DEVICES
        lanes = lanes_of(devices, range(WARM_UP, WARM_UP + int(needed)))
        ours, bare = [], []
        with rounds_of(lanes) as rounds, bare_server(port, int(warm["body_bytes"])) as bare_pid:
            for number in range(ROUNDS):
                bare.append(one_round(rounds, port, bare_pid, wrap=True))
                ours.append(one_round(rounds, stack.port, stack.supervisor.pid("api") or 0))
                say(f"check_in: round {number + 1}: {ours[-1][0]:.0f}/s, bare {bare[-1][0]:.0f}/s")
    note = f"{LANES} connections, {DEVICES} devices, p99 {median(each[2] for each in ours):.0f} ms"
    yield rate("check_in", [each[0] for each in ours], [each[0] for each in bare], "check-ins/s", note)
    yield rate("check_in_cpu", [each[1] for each in ours], [each[1] for each in bare], "check-ins/CPU-s of the server")


def one_round(
    rounds: Rounds, port: int, pid: int, seconds: float = SECONDS, *, wrap: bool = False
) -> tuple[float, float, float]:
    """Return check-ins per second, check-ins per CPU-second of the server process, and the p99 in ms."""
    before = cpu_s(pid)
    result = rounds.run(port, seconds, wrap=wrap)
    return result["done"] / result["seconds"], result["done"] / (cpu_s(pid) - before), result["p99_ms"]
