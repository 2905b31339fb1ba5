"""Our images as containers; without Docker or an image these tests are skipped and say what is missing."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import docker

IMAGES = tuple(
    f"fleetloop/{name}" for name in ("postgres", "pgbouncer", "nginx", "prometheus", "s3", "server", "agent")
)


@pytest.fixture(scope="session")
def containers() -> None:
    wrong = docker.missing(*IMAGES)
    if wrong:
        pytest.skip(wrong)


@pytest.fixture(scope="session")
def network(containers: None) -> Iterator[Any]:
    with docker.network() as made:
        yield made


@pytest.fixture(scope="session")
def password() -> str:
    return secrets.token_hex(16)


@pytest.fixture(scope="session")
def postgres_17(network: Any, password: str) -> Iterator[str]:
    """Give the URL of a PostgreSQL in a container, known as `postgres` to its neighbours."""
    values = {"env": {"POSTGRES_PASSWORD": password}, "command": ["postgres", "-c", "fsync=off"]}
    with docker.running("fleetloop/postgres", 5432, network=network, alias="postgres", **values) as port:
        yield f"postgresql://postgres:{password}@{docker.LOOPBACK}:{port}/postgres"
