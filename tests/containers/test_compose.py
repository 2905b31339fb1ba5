"""compose.yaml, truly started: all of it becomes healthy and works (but Grafana, whose image no package makes)."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import docker

COMPOSE = Path(__file__).parents[2] / "infra" / "compose" / "compose.yaml"
WRONG = docker.left_out() or docker.no_compose()
ASKED_FOR = ("flows", "worker", "nginx", "prometheus")
START_S = 240

pytestmark = [
    pytest.mark.skipif(bool(WRONG), reason=WRONG or "-"),
    pytest.mark.usefixtures("containers"),
    pytest.mark.timeout(420),
]


class Stack:
    def __init__(self, project: str, ports: dict[str, int]) -> None:
        self.project = project
        self._environment = os.environ | {name: str(port) for name, port in ports.items()}
        self.port = ports["FLEETLOOP_PORT"]

    def run(self, *words: str, limit_s: float = 60) -> str:
        command = ["docker", "compose", "-p", self.project, "-f", str(COMPOSE), "--profile", "fleet", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False, env=self._environment
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def states(self) -> dict[str, set[str]]:
        found = dict[str, set[str]]()
        for line in self.run("ps", "--all", "--format", "json").splitlines():
            each = json.loads(line)
            found.setdefault(each["Service"], set()).add(each["Health"] or f"{each['State']} {each['ExitCode']}")
        return found


@contextmanager
def started(ports: dict[str, int]) -> Iterator[Stack]:
    stack = Stack(f"fl{os.urandom(4).hex()}", ports)
    try:
        stack.run("up", "--detach", "--no-build", *ASKED_FOR, limit_s=START_S)
        yield stack
    finally:
        stack.run("down", "--volumes", "--timeout", "3", limit_s=120)


def test_it_comes_up_and_a_device_gets_in(unused_tcp_port_factory: Any, tmp_path: Path) -> None:
    names = ("FLEETLOOP_PORT", "FLEETLOOP_DEVICE_PORT", "FLEETLOOP_PROMETHEUS_PORT")
    with started({name: unused_tcp_port_factory() for name in names}) as stack:
        wait_healthy(stack)
        token = stack.run("exec", "--no-TTY", "--index", "1", "people", "cat", "tokens/admin.token").strip()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(
            base_url=f"http://{docker.LOOPBACK}:{stack.port}", headers=headers, trust_env=False, timeout=20
        ) as http:
            enrol(stack, http)
            [device] = http.get("/api/v1/devices").json()["items"]
            assert (device["serial"], device["site"]) == ("1424", "hall")
            assert http.post("/device/v1/check-in").status_code == 404, "devices do not come in where people do"
        listed = docker_says("inspect", "--format", "{{json .Config.Env}}", *stack.run("ps", "-q").split())
        assert "postgresql://" not in listed
        assert token not in listed


def wait_healthy(stack: Stack) -> None:
    end = time.monotonic() + START_S
    jobs = {"secrets": {"exited 0"}, "init": {"exited 0"}}
    while (found := stack.states()) and any(found[name] != jobs.get(name, {"healthy"}) for name in found):
        assert time.monotonic() < end, found
        time.sleep(0.5)
    assert {"people", "devices-1", "devices-2", "worker", "prefect", "flows", "s3", "postgres"} <= set(found)


def enrol(stack: Stack, http: httpx.Client) -> None:
    """Enrol a real agent, in its own container, through nginx's mutual TLS."""
    body = {"title": "Cart", "facts": {}}
    assert http.put("/api/v1/device-classes/cart", json=body).is_success
    made = http.post("/api/v1/enrolment-tokens", json={"device_class": "cart", "site": "hall", "ttl_s": 600})
    assert made.is_success, made.text
    given = made.json()
    where = ["--network", f"{stack.project}_inside", "--read-only", "--tmpfs", "/var/lib/fleetloop:uid=10001,mode=0700"]
    command = ["enrol", "--server", "https://nginx:8443", "--token", given["token"], "--ca-sha256", given["ca_sha256"]]
    about = ["--serial", "1424", "--device-class", "cart", "--site", "hall", "--state-dir", "/var/lib/fleetloop"]
    docker_says("run", "--rm", *where, "fleetloop/agent", *command, *about)


def docker_says(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout
