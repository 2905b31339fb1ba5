"""A real Ray on this machine: a head without CPUs and two nodes of one CPU each, with a token of their own."""

import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.clusters.processes import Daemon, Start, kill_tree, starting, until

ONE_NODE = ["--num-cpus", "1", "--object-store-memory", "100000000", "--disable-usage-stats", "--block"]
SOON = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # nodes of a head that started anew join it again sooner
    "RAY_USAGE_STATS_ENABLED": "0",
}


def program() -> str | None:
    """Return the program `ray` of FLEETLOOP_TEST_RAY, of this environment, or of the path."""
    beside = Path(sys.executable).with_name("ray")
    return os.environ.get("FLEETLOOP_TEST_RAY") or (str(beside) if beside.exists() else shutil.which("ray"))


def quiet_port() -> int:
    """Return a port that neither the kernel hands out nor Ray's workers take: a daemon binds it seconds later."""
    while True:
        port = 20000 + secrets.randbelow(10000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def why_not() -> str | None:
    hint = "pip install 'fleetloop[ray]', or name another environment's program in FLEETLOOP_TEST_RAY"
    return None if program() else f"no program ray here; {hint}"


@dataclass
class Ray:
    address: str
    token_file: Path
    join: list[str]
    start: Start
    folder: Path
    env: dict[str, str]
    nodes: list[Daemon | None] = field(default_factory=list)
    started: int = 0

    def alive(self) -> int:
        headers = {"Authorization": f"Bearer {self.token_file.read_text()}"}
        try:
            answer = httpx.get(f"{self.address}/nodes?view=summary", headers=headers, trust_env=False, timeout=10)
            told = answer.json()["data"]["summary"]
        except (httpx.HTTPError, ValueError, KeyError):
            return 0
        return sum(each["raylet"].get("state") == "ALIVE" for each in told)

    def whole(self, nodes: int = 3) -> None:
        """Wait until so many nodes are alive, the head among them."""
        try:
            until(lambda: self.alive() == nodes, 90, f"{nodes} nodes of Ray are alive")
        except TimeoutError:
            for log in sorted(self.folder.glob("*.out")):
                print(f"{log.name}: {log.read_text()[-1000:]}")
            raise

    def start_node(self) -> None:
        command = [*self.join, f"--dashboard-agent-listen-port={quiet_port()}"]  # nodes of one machine share its ports
        self.started += 1
        self.nodes.append(self.start(f"ray-node-{self.started}", command, self.env))

    def lose_node(self, pid: int) -> None:
        """Take the power from the node on which a process runs."""
        above = {each.pid for each in psutil.Process(pid).parents()}
        [node] = [each for each in self.nodes if each is not None and each.pid in above]
        self.nodes.remove(node)
        kill_tree(node.pid)


@contextmanager
def ray_cluster(folder: Path) -> Iterator[Ray]:
    with ExitStack() as running:
        yield make_ray(folder, starting(running, folder))


def make_ray(folder: Path, start: Start) -> Ray:
    """Make and start a Ray; return once both nodes have joined."""
    ray, port, dashboard = program() or "ray", quiet_port(), quiet_port()
    token_file = folder / "ray-token"
    token_file.write_text(secrets.token_hex(32))
    token_file.chmod(0o600)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = kept | SOON | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}
    head = [
        ray, "start", "--head", "--port", str(port), "--dashboard-host", "127.0.0.1", f"--dashboard-port={dashboard}",
        "--node-ip-address", "127.0.0.1", "--temp-dir", str(folder / "t"), *ONE_NODE,
        f"--dashboard-agent-listen-port={quiet_port()}",
    ]  # fmt: skip
    head[head.index("--num-cpus") + 1] = "0"
    join = [ray, "start", "--address", f"127.0.0.1:{port}", "--node-ip-address", "127.0.0.1", *ONE_NODE]
    start("ray-head", head, environment)
    made = Ray(f"http://127.0.0.1:{dashboard}", token_file, join, start, folder, environment)
    until(lambda: made.alive() == 1, 90, "Ray's head answers")
    for nodes in (2, 3):  # in turn: Ray gives a node 30 s to start, too few for two at once with cold files
        made.start_node()
        made.whole(nodes)
    return made
