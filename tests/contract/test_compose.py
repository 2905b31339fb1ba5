"""compose.yaml: nothing is root, nothing writes where it should not, everything has limits and a state of health."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import docker

COMPOSE = Path(__file__).parents[2] / "infra" / "compose" / "compose.yaml"
JOBS = {"secrets", "init", "fleet"}
WRONG = docker.no_compose()


SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service.get("network_mode") in (None, "none", "service:postgres")
    assert not service.get("privileged")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    for volume in service["volumes"]:
        if volume.startswith("."):
            assert volume.endswith(":ro"), "files of this repository are read only"
    for value in service.get("environment", {}).values():
        assert not str(value).startswith(("postgresql", "fl_"))


@pytest.mark.parametrize("name", sorted(set(SERVICES) - JOBS))
def test_every_service_has_a_state_of_health(name: str) -> None:
    service = SERVICES[name]
    image = Path(service["image"].replace("}", "").rsplit("/", 1)[-1]).name
    dockerfile = COMPOSE.parents[1] / "images" / f"{image}.Dockerfile"
    assert "test" in service.get("healthcheck", {}) or "\nHEALTHCHECK " in dockerfile.read_text()


def test_pages_and_check_ins_survive_the_loss_of_one_process() -> None:
    assert SERVICES["people"]["deploy"]["replicas"] == 2
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert {"devices-1", "devices-2"} <= set(SERVICES)


@pytest.mark.skipif(bool(WRONG), reason=WRONG or "-")
def test_docker_compose_takes_it() -> None:
    command = ["docker", "compose", "-f", str(COMPOSE), "--profile", "fleet", "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["services"]) == set(SERVICES)
