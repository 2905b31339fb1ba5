"""`fleetloop prepare`: from an empty database to one that the programs start on; run again, it changes nothing."""

import asyncio
import re
import ssl
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from cryptography.x509 import load_pem_x509_certificates

from control_plane.kit.settings import Settings
from tests.conftest import with_database
from tests.support.cli import fleetloop


@pytest.fixture
def empty_url(postgres_url: str) -> str:
    name = f"p_{uuid4().hex}"

    async def make() -> None:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(f'create database "{name}"')
        await connection.close()

    asyncio.run(make())
    return with_database(postgres_url, name)


def test_database_keys_and_tokens_are_there_and_stay(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets, home, proxy = tmp_path / "secrets", tmp_path / "home", tmp_path / "proxy"
    secrets.mkdir()
    (secrets / "fleetloop_database_url").write_text(f"{empty_url}\n")
    monkeypatch.delenv("FLEETLOOP_DATABASE_URL", raising=False)
    monkeypatch.setenv("FLEETLOOP_SECRETS_DIR", str(secrets))
    monkeypatch.setenv("FLEETLOOP_DEVICE_NAMES", "devices.example, 10.0.0.1")
    command = ("prepare", "--home", str(home), "--proxy-certificates", str(proxy))
    assert fleetloop(*command).status == 0
    kept = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert {"admin.token", "device-ca.pem", "object-urls.secret", "1.root.json"} <= {path.name for path in kept}
    assert fleetloop(*command).status == 0
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == kept
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept if path.suffix in {".token", ".pem", ".secret"})
    assert (proxy / "server.key").stat().st_mode & 0o077 == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(proxy / "server.crt", proxy / "server.key")
    context.load_verify_locations(proxy / "device-ca.crt")
    assert "devices.example" in str(load_pem_x509_certificates((proxy / "server.crt").read_bytes())[0].extensions)


def test_without_a_database_it_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEETLOOP_DATABASE_URL", raising=False)
    monkeypatch.delenv("FLEETLOOP_SECRETS_DIR", raising=False)
    ended = fleetloop("prepare", "--home", str(tmp_path / "home"))
    assert ended.status != 0
    assert "FLEETLOOP_DATABASE_URL" in ended.err
    assert not (tmp_path / "home").exists()


def test_the_environment_wins_over_files_and_a_direct_way_means_a_pooler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fleetloop_database_url").write_text("postgresql://file/db\n")
    (tmp_path / "fleetloop_database_direct_url").write_text("postgresql://direct/db\n")
    monkeypatch.setenv("FLEETLOOP_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("FLEETLOOP_DATABASE_URL", "postgresql://pooler/db")
    found = Settings()
    assert (found.database_url, found.direct_url, found.pooled) == (
        "postgresql://pooler/db",
        "postgresql://direct/db",
        True,
    )
    monkeypatch.delenv("FLEETLOOP_DATABASE_URL")
    (tmp_path / "fleetloop_database_direct_url").unlink()
    found = Settings()
    assert (found.database_url, found.direct_url, found.pooled) == ("postgresql://file/db",) * 2 + (False,)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://ada:s3cret@nowhere.invalid/x", "unavailable: PostgreSQL at .*ada:.*@nowhere.invalid/x does not"),
        ("postgresql://ada:s3cret@127.0.0.1:1/x", "unavailable: .*127.0.0.1:1/x does not let us in: .*Connect"),
        ("postgresql://ada:s3cret@127.0.0.1:99999/x", "unavailable: .*port must be"),
        ("mysql://ada:s3cret@db/x", "invalid: a database URL is written as postgresql://"),
        ("no url s3cret", "invalid: a database URL is written as postgresql://"),
    ],
)
def test_a_database_that_does_not_let_us_in_is_told_of_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setenv("FLEETLOOP_DATABASE_URL", url)
    ended = fleetloop("prepare", "--home", str(tmp_path / "home"))
    assert ended.status == 1
    assert re.search(said, ended.err), ended.err
    assert "s3cret" not in ended.err
    assert "Traceback" not in ended.err


def test_a_database_that_is_not_there_is_told_of(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETLOOP_DATABASE_URL", with_database(postgres_url, "nowhere"))
    ended = fleetloop("prepare", "--home", str(tmp_path / "home"))
    assert ended.status == 1
    assert '"nowhere" does not exist' in ended.err
