"""One installation on one machine: embedded PostgreSQL, API, worker, Prefect's server and runner."""

import contextlib
import json
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from control_plane.cli.bootstrap import make_keys, make_tokens
from control_plane.cli.processes import Program, Supervisor, free_port
from control_plane.kit.embedded import EmbeddedPostgres
from control_plane.kit.errors import Unavailable
from control_plane.migrations.upgrade import upgrade

READY_S = 60.0
TARGETS = "prometheus-targets.json"
QUIET_PREFECT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_RUNNER_POLL_FREQUENCY": "2",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_CLI_PROMPT": "false",
}


@dataclass(frozen=True, slots=True)
class StackOptions:
    """`orchestrator` is "prefect", "subprocess" or "none"; ports of 0 are chosen."""

    home: Path
    port: int = 0
    device_port: int = 0
    prefect_port: int = 0
    orchestrator: str = "prefect"
    check_in_s: float = 5.0
    tick_s: float = 1.0
    device_rate_per_s: float = 20.0
    approvals_needed: int = 1
    evidence_cell_s: int = 60
    database_url: str | None = None
    data: Path | None = None


class Stack:
    """Starts everything, says where it is, stops everything."""

    def __init__(self, options: StackOptions) -> None:
        self.options = options
        self.home = options.home.resolve()
        self.supervisor = Supervisor(self.home / "logs")
        self.port = options.port or free_port()
        self.prefect_port = options.prefect_port or free_port()
        self.device_port = options.device_port or free_port()
        self.metrics_ports = {name: free_port() for name in ("api", "devices", "worker")}
        self.url = f"http://127.0.0.1:{self.port}"
        self.device_url = f"https://127.0.0.1:{self.device_port}"
        self.prefect_url = f"http://127.0.0.1:{self.prefect_port}"
        self.postgres: EmbeddedPostgres | None = None
        self.database_url = options.database_url
        self.tokens: dict[str, str] = {}

    def start(self) -> None:
        """Start and return once the API is ready; Prefect comes up on its own time.

        Raises:
            Unavailable: something does not start; the message has the end of its log.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        if self.options.orchestrator == "prefect":
            self._start_prefect()
        if self.database_url is None:
            self.postgres = EmbeddedPostgres(self.home / "pg")
            self.database_url = self.postgres.url
        upgrade(self.database_url)
        self.tokens = make_tokens(self.database_url, self.home / "tokens")
        make_keys(self.home)
        self._start_server()
        self._wait_ready()
        if self.options.orchestrator == "prefect":
            self._start_runner()
        (self.home / TARGETS).write_text(json.dumps(self._targets()))
        (self.home / "stack.json").write_text(
            json.dumps({"url": self.url, "devices": self.device_url, "prefect": self.prefect_url})
        )

    def _targets(self) -> list[dict[str, object]]:
        """Return where Prometheus finds our processes, as its `file_sd_configs` reads it."""
        return [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"program": name}} for name, port in self.metrics_ports.items()
        ]

    def environment(self) -> dict[str, str]:
        settings = {
            "FLEETLOOP_HOME": str(self.home),
            "FLEETLOOP_DATABASE_URL": self.database_url or "",
            "FLEETLOOP_PUBLIC_URL": self.url,
            "FLEETLOOP_ORCHESTRATOR": self.options.orchestrator,
            "FLEETLOOP_PREFECT_API_URL": f"{self.prefect_url}/api",
            "FLEETLOOP_PREFECT_UI_URL": self.prefect_url,
            "FLEETLOOP_CHECK_IN_S": str(self.options.check_in_s),
            "FLEETLOOP_TICK_S": str(self.options.tick_s),
            "FLEETLOOP_DEVICE_RATE_PER_S": str(self.options.device_rate_per_s),
            "FLEETLOOP_APPROVALS_NEEDED": str(self.options.approvals_needed),
            "FLEETLOOP_EVIDENCE_CELL_S": str(self.options.evidence_cell_s),
            "FLEETLOOP_REQUIRE_SIGNED": "true",
        }
        return settings | self.flow_environment()

    def flow_environment(self) -> dict[str, str]:
        """Return what flows and jobs need: server, token, home, and the workload's data folder."""
        given = {
            "FLEETLOOP_SERVER": self.url,
            "FLEETLOOP_TOKEN": self.tokens.get("pipeline", ""),
            "FLEETLOOP_HOME": str(self.home),
            "FLEETLOOP_TRAINER_KEY": str(self.home / "keys" / "online" / "trainer.pem"),
        }
        if self.options.data is not None:
            given["FLEETLOOP_WORKLOAD_DATA"] = str(self.options.data.resolve())
        return given

    def _start_server(self) -> None:
        """Start two API processes: making a page takes tens of milliseconds, in which no device should have to wait."""
        people = ["--serve", "people", "--port", str(self.port)]
        devices = ["--serve", "devices", "--device-port", str(self.device_port)]
        for name, module, arguments in (
            ("api", "control_plane.main", people),
            ("devices", "control_plane.main", devices),
            ("worker", "control_plane.worker", []),
        ):
            command = [sys.executable, "-m", module, *arguments, "--metrics-port", str(self.metrics_ports[name])]
            self.supervisor.start(Program(name, command, self.environment()))

    def _prefect_environment(self) -> dict[str, str]:
        return QUIET_PREFECT | {
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "PREFECT_UI_API_URL": f"{self.prefect_url}/api",
        }

    def _start_prefect(self) -> None:
        command = [
            sys.executable,
            "-m",
            "prefect",
            "server",
            "start",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.prefect_port),
        ]
        self.supervisor.start(Program("prefect", command, self._prefect_environment()))

    def _start_runner(self) -> None:
        environment = self._prefect_environment() | self.flow_environment()
        self.supervisor.start(
            Program(
                "runner",
                [sys.executable, "-m", "flows.deployments"],
                environment,
                after=lambda: _answers(f"{self.prefect_url}/api/health"),
            )
        )

    def _wait_ready(self) -> None:
        self._until("api", lambda: _answers(f"{self.url}/readyz"))
        self._until("devices", lambda: _listens(self.device_port))

    def _until(self, name: str, is_ready: Callable[[], bool]) -> None:
        give_up = time.monotonic() + READY_S
        while not is_ready():
            if time.monotonic() > give_up:
                raise Unavailable(f"{name} does not become ready:\n{self.supervisor.tail(name)}")
            time.sleep(0.1)

    def stop(self) -> None:
        self.supervisor.stop_all()
        if self.postgres is not None:
            self.postgres.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _listens(port: int) -> bool:
    """Say whether a server took the port; it does so once it is ready."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def wipe(home: Path) -> None:
    """Empty a home that was left behind, ending a database server that a killed process left in it."""
    if (home / "pg" / "postmaster.pid").exists():
        EmbeddedPostgres(home / "pg").stop()
    if home.exists():
        shutil.rmtree(home)
