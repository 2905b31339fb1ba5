"""What an agent costs while nothing happens: memory and CPU of one device's agent, and of a host with 36.

Measured: the real programs (`agents.main run` and `agents.main host`) against a real API, checking in every 5 s, over a
stretch after all have settled; memory and CPU are the process's own and its children's. Floor: a bare asyncio + httpx
process that does as many plain GETs per second against the same API in the same stretch: what Python, the event loop,
TLS's context and HTTP cost without any agent. An agent also signs, verifies manifests, watches its spool and outbox
once a second and keeps a journal; so the floor cannot be reached, and the ratio is floor / value.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import psutil

from control_plane.cli.stack import Stack
from control_plane.client import Client
from control_plane.fleet.schemas import DeviceClassPut, EnrolmentTokenCreate
from tests.bench.figure import Figure, cost, say
from tests.bench.stage import CLASS, client_of, installation, program

HOSTED, CHECK_IN_S = 36, 5.0
SETTLE_S, MEASURE_S = 45.0, 20.0  # helper processes end when nobody has asked them for a while


def _prepare(stack: Stack, client: Client, folder: Path, serial: str) -> None:
    token = client.create_enrolment_token(EnrolmentTokenCreate(device_class=CLASS)).token
    folder.mkdir(parents=True)
    body = {"server": stack.url, "token": token, "serial": serial, "site": "north", "device_class": CLASS}
    (folder / "enrolment.json").write_text(json.dumps(body))


def _enrolled(stack: Stack, client: Client, folder: Path) -> None:
    token = client.create_enrolment_token(EnrolmentTokenCreate(device_class=CLASS)).token
    command = [sys.executable, "-m", "agents.main", "enrol", "--server", stack.url, "--token", token, "--serial"]
    command += ["single", "--device-class", CLASS, "--site", "north", "--state-dir", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _cpu_s(pid: int) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in _family(pid))


def _rss_mb(pid: int) -> float:
    return sum(each.memory_info().rss for each in _family(pid)) / 1e6


def bench() -> Iterable[Figure]:
    with installation(check_in_s=CHECK_IN_S) as stack, ExitStack() as running:
        client, root = client_of(stack), stack.home / "devices"
        client.put_device_class(CLASS, DeviceClassPut(title="bench"))
        for number in range(HOSTED):
            _prepare(stack, client, root / f"hosted-{number:02d}", f"hosted-{number:02d}")
        _enrolled(stack, client, stack.home / "single")
        commands = {
            "agent": ("agents.main", "run", "--state-dir", str(stack.home / "single")),
            "agent_host_36": ("agents.main", "host", "--root", str(root)),
            "floor 1": ("tests.bench.plain_gets", stack.url, str(1 / CHECK_IN_S)),
            "floor 36": ("tests.bench.plain_gets", stack.url, str(HOSTED / CHECK_IN_S)),
        }
        pids = {name: running.enter_context(program(*command)).pid for name, command in commands.items()}
        yield from _figures(client, pids)


def _figures(client: Client, pids: dict[str, int]) -> Iterable[Figure]:
    say(f"agent: settling {SETTLE_S:.0f} s, then measuring {MEASURE_S:.0f} s")
    time.sleep(SETTLE_S)
    seen = sum(device.last_seen_at is not None for device in client.list_devices())
    if seen != HOSTED + 1:
        raise RuntimeError(f"only {seen} of {HOSTED + 1} agents have checked in")
    begun, before = time.monotonic(), {name: _cpu_s(pid) for name, pid in pids.items()}
    time.sleep(MEASURE_S)
    seconds = time.monotonic() - begun
    percent = {name: 100 * (_cpu_s(pid) - before[name]) / seconds for name, pid in pids.items()}
    rss = {name: _rss_mb(pid) for name, pid in pids.items()}
    for name, floor in (("agent", "floor 1"), ("agent_host_36", "floor 36")):
        yield cost(f"{name}_rss", rss[name], rss[floor], "MB", "less is better; the floor is bare asyncio + httpx")
        note = f"less is better; one check-in per device every {CHECK_IN_S:.0f} s, the floor as many plain GETs"
        yield cost(f"{name}_cpu", percent[name], percent[floor], "% of a core", note)
