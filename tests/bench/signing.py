"""What the director's signature costs: check-ins per second with it and without.

Measured: signed check-ins of enrolled devices, as in `check_in`. Ceiling: the same API on the same database, started
with a director that fills in 64 zero bytes where the signature belongs, and asked by as many other devices. `signing`
takes turns by the clock, `signing_cpu` compares what the two API processes spent, which others on the machine do not
disturb. What it costs to verify the device's own signature is in `identity`.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from control_plane.cli.processes import free_port
from control_plane.cli.stack import Stack
from tests.bench.check_in import lanes_of, one_round
from tests.bench.figure import Figure, rate, say
from tests.bench.rounds import rounds_of
from tests.bench.stage import enrol, installation, listens, wait_until

DEVICES, AHEAD = 32, 900
ROUNDS, SECONDS = 5, 2.0


@contextmanager
def unsigned_api(stack: Stack, port: int) -> Iterator[int]:
    """Run it beside the stack's own and as it does; give its process id."""
    command = [sys.executable, "-m", "tests.bench.unsigned_api", "--serve", "people", "--port", str(port)]
    with subprocess.Popen(command, env=os.environ | stack.environment()) as process:
        try:
            wait_until(lambda: listens(port), "the unsigned API", 30)
            yield process.pid
        finally:
            process.kill()


def bench() -> Iterable[Figure]:
    port = free_port()
    with installation() as stack, unsigned_api(stack, port) as pid:
        with_lanes, without_lanes = (lanes_of(enrol(stack, DEVICES), range(AHEAD)) for _ in range(2))
        ours, bare = [], []
        with rounds_of(with_lanes) as signed, rounds_of(without_lanes) as unsigned:
            signed.run(stack.port, 0.5)
            unsigned.run(port, 0.5)
            for number in range(ROUNDS):
                bare.append(one_round(unsigned, port, pid, SECONDS))
                ours.append(one_round(signed, stack.port, stack.supervisor.pid("api") or 0, SECONDS))
                say(f"signing: round {number + 1}: {ours[-1][0]:.0f}/s signed, {bare[-1][0]:.0f}/s unsigned")
    note = f"{DEVICES} devices each"
    yield rate("signing", [each[0] for each in ours], [each[0] for each in bare], "check-ins/s", note)
    yield rate("signing_cpu", [each[1] for each in ours], [each[1] for each in bare], "check-ins/CPU-s of the server")
