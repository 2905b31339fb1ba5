"""Docker for tests: whether one answers, its socket if `make docker` started it, and our images as containers."""

import functools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "infra" / "images" / "engine.sh"
LOOPBACK = "127.0.0.1"
COMMAND_S = 10.0
QUICK_NS = 300_000_000
"""Between looks at a container's health: its image's own pause is meant for years, not for seconds."""
HARDENED = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "healthcheck": {"interval": QUICK_NS},
}


@functools.cache
def home() -> Path:
    found = subprocess.run([ENGINE, "home"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


def left_out() -> str:
    """Say why the longest of these tests are not run; empty if they are. CI has 25 minutes for everything."""
    some = os.environ.get("FLEETLOOP_TEST_CONTAINERS") == "some"
    return "FLEETLOOP_TEST_CONTAINERS=some leaves the longest out; make test runs them where Docker is" if some else ""


@functools.cache
def no_compose() -> str:
    """Say why `docker compose` is not here; empty if it is. Points Docker at the plugin that `make docker` fetched."""
    if (home() / "cli" / "cli-plugins" / "docker-compose").exists():
        os.environ.setdefault("DOCKER_CONFIG", str(home() / "cli"))
    try:
        asked = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no Docker: {error}"
    return "" if asked.returncode == 0 else "no compose plugin: make docker fetches one"


@functools.cache
def missing(*images: str) -> str:
    """Say why containers of these images cannot run here; empty if they can. Points Docker's clients at our engine."""
    socket = home() / "docker.sock"
    if socket.exists():
        os.environ.setdefault("DOCKER_HOST", f"unix://{socket}")
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # its image would have to be pulled
    for image in images:
        command = ["docker", "image", "inspect", image]
        try:
            asked = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"no Docker: {error}"
        if asked.returncode != 0:
            return f"{asked.stderr.strip().splitlines()[-1]} - make docker"
    return ""


@contextmanager
def network() -> Iterator[Any]:
    """Give a network whose containers know each other by name."""
    from testcontainers.core.network import Network  # noqa: PLC0415 - reads the environment when it is imported

    with Network() as made:
        yield made


@contextmanager
def running(image: str, port: int, *, network: Any = None, alias: str = "", **values: Any) -> Iterator[int]:
    """Run one of our images, on loopback alone and hardened as in compose.yaml; give its port once it is healthy."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - as above
    from testcontainers.core.wait_strategies import HealthcheckWaitStrategy  # noqa: PLC0415

    folders = values.pop("tmpfs", {"/tmp": ""})  # noqa: S108 - in there
    container: Any = DockerContainer(image, **(HARDENED | values))
    container.tmpfs.update(folders)
    container.ports[port] = (LOOPBACK,)
    if network is not None:
        container.with_network(network).with_network_aliases(alias)
    container.waiting_for(HealthcheckWaitStrategy().with_startup_timeout(60).with_poll_interval(0.1))
    try:
        container.start()
        yield int(container.get_exposed_port(port))
    finally:
        container.stop()
