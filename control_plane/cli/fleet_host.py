"""The demo's devices: state directories with enrolment tokens, one agent host, one field process. All real programs."""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane.cli.processes import Program
from control_plane.cli.stack import Stack
from control_plane.client import Client
from control_plane.fleet.schemas import EnrolmentTokenCreate


@dataclass(frozen=True, slots=True)
class FieldOptions:
    robots: int
    seed: int
    rate: float


class FleetHost:
    """Many simulated robots: the real agent code for each, and the workload's own field application."""

    def __init__(self, stack: Stack, spec: dict[str, Any], options: FieldOptions) -> None:
        self.root = stack.home / "devices"
        self._stack = stack
        self._spec = spec
        self._options = options

    def enrol(self, client: Client, done: Callable[[int], None]) -> None:
        """Give each robot a single-use token of its own; the agent host does the rest."""
        sites = self._spec["sites"]
        root = self._stack.home / "keys" / "signed" / "1.root.json"
        for number in range(self._options.robots):
            site, serial = sites[number % len(sites)], f"robot-{number:03d}"
            token = client.create_enrolment_token(
                EnrolmentTokenCreate(device_class=self._spec["device_class"], site=site, serial=serial),
                key=f"enrol-{serial}",
            )
            folder = self.root / serial
            folder.mkdir(parents=True, exist_ok=True)
            _configure(folder)
            body = {
                "server": self._stack.device_url,
                "token": token.token,
                "ca_sha256": token.ca_sha256,
                "trust_root_sha256": hashlib.sha256(root.read_bytes()).hexdigest(),
                "serial": serial,
                "site": site,
                "device_class": self._spec["device_class"],
                "labels": {},
            }
            partial = folder / "enrolment.json.partial"
            partial.write_text(json.dumps(body))
            partial.replace(folder / "enrolment.json")
            done(number + 1)

    def start(self) -> None:
        agents = [sys.executable, "-m", "agents.main", "host", "--root", str(self.root)]
        self._stack.supervisor.start(Program("agents", agents, {}))
        command = self._spec["field"]["run"]
        program = sys.executable if command[0] == "python" else command[0]
        field = [
            program,
            *command[1:],
            "--root",
            str(self.root),
            "--seed",
            str(self._options.seed),
            "--rate",
            str(self._options.rate),
        ]
        environment = {"OMP_NUM_THREADS": "1"} | self._stack.flow_environment()
        environment.pop("FLEETLOOP_TOKEN")  # a robot has its own key, nobody's token
        self._stack.supervisor.start(Program("field", field, environment))

    def wait_enrolled(self, client: Client, done: Callable[[int], None], timeout_s: float = 60) -> None:
        give_up = time.monotonic() + timeout_s
        while (seen := sum(d.last_seen_at is not None for d in client.list_devices())) < self._options.robots:
            if time.monotonic() > give_up:
                raise TimeoutError(
                    f"only {seen} of {self._options.robots} robots have checked in:\n"
                    f"{self._stack.supervisor.tail('agents')}"
                )
            done(seen)
            time.sleep(0.3)
        done(seen)


def _configure(folder: Path) -> None:
    """Let a robot qualify with a short soak: all of them share this machine's cores and take turns."""
    (folder / "agent").mkdir(mode=0o700, exist_ok=True)
    (folder / "agent" / "agent.json").write_text(json.dumps({"qualify": {"soak_s": 0.1}}))


def running(client: Client, content: str) -> int:
    """Count devices that run a content."""
    return sum(line.devices for line in client.fleet_summary() if line.active_content == content)


def logs(home: Path) -> Path:
    return home / "logs"
