"""Migrations, and the tests that ask most of SQL, on every major of PostgreSQL that is here, and behind a pooler.

All other tests run on 18, the embedded server's major. These are the same tests, told of another server.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import pytest

from tests.support import docker, postgres_majors
from tests.support.again import passed

SCHEMA = tuple(
    f"tests/migrations/test_migrations.py::test_{name}"
    for name in (
        "up_down_and_up_again",
        "models_and_migrations_say_the_same",
        "partitions_made_at_run_time_are_no_drift",
    )
)
QUERIES = tuple(f"tests/database/test_{name}.py" for name in ("kit", "fleet_strata", "telemetry_cells"))
ALL_DAY = tuple(
    f"tests/database/test_{name}.py" for name in ("enrol_and_check_in", "quiet_check_ins", "told_of_releases")
)
"""What devices and processes do all day: LISTEN, statements past SQLAlchemy, COPY."""
INSTALLED = postgres_majors.installed()
OTHERS = sorted(set(INSTALLED) - {18})

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("major", OTHERS)
def test_the_schema_and_its_queries_on_another_major(major: int) -> None:
    with (
        TemporaryDirectory(prefix=f"fl-pg{major}-", ignore_cleanup_errors=True) as folder,
        postgres_majors.running(INSTALLED[major], Path(folder)) as url,
    ):
        assert passed(*SCHEMA, *QUERIES, FLEETLOOP_TEST_DATABASE_URL=url) > 30


async def test_the_schema_and_its_queries_in_a_container(postgres_17: str) -> None:
    connection = await asyncpg.connect(postgres_17)
    assert connection.get_server_version().major == 17
    await connection.close()
    assert passed(*SCHEMA, *QUERIES, FLEETLOOP_TEST_DATABASE_URL=postgres_17) > 30


@pytest.fixture
def pooler(network: Any, password: str, postgres_17: str, tmp_path: Path) -> Iterator[str]:
    """Give the URL of a PgBouncer in transaction mode before that PostgreSQL."""
    users = tmp_path / "users.txt"
    users.write_text(f'"postgres" "{password}"\n')
    users.chmod(0o644)  # another user reads it in there; the folder itself is ours alone
    volumes = [(str(users), "/etc/pgbouncer/users/users.txt", "ro")]
    with docker.running("fleetloop/pgbouncer", 6432, network=network, alias="pgbouncer", volumes=volumes) as port:
        yield f"postgresql://postgres:{password}@{docker.LOOPBACK}:{port}/postgres"


async def test_the_pooler_gives_transactions_whatever_connection_is_free(pooler: str) -> None:
    """What the next test relies on: without this, it would prove nothing."""
    one, two = (
        await asyncpg.connect(pooler, statement_cache_size=0),
        await asyncpg.connect(pooler, statement_cache_size=0),
    )
    transaction = one.transaction()
    await transaction.start()
    mine = await one.fetchval("select pg_backend_pid()")
    await transaction.commit()
    assert await two.fetchval("select pg_backend_pid()") == mine, "the connection went on to somebody else"
    kept = await one.prepare("select 1", name="kept")
    assert await kept.fetchval() == 1  # only now is the connection let go
    async with two.transaction():
        await two.execute("select 1")  # holds the connection that knows the statement
        with pytest.raises(asyncpg.InvalidSQLStatementNameError):
            await kept.fetch()
    await one.close()
    await two.close()


@pytest.mark.skipif(bool(docker.left_out()), reason=docker.left_out() or "-")
def test_the_server_works_behind_a_pooler(pooler: str, postgres_17: str) -> None:
    servers = {"FLEETLOOP_TEST_DATABASE_URL": postgres_17, "FLEETLOOP_TEST_POOLER_URL": pooler}
    assert passed(*QUERIES[1:], *ALL_DAY, **servers) > 30
