import asyncio
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from control_plane.kit.objects import BadUrlError, Grant, LocalStore, ObjectStore, S3Settings, S3Store, object_key
from tests.kit.objects.servers import KMS_KEY, Server, answered, s3_server


@dataclass
class Bench:
    """A store with what the suite does to it from outside; `put` answers the HTTP status."""

    store: ObjectStore
    damage: Callable[[str, bytes], Awaitable[None]]
    put: Callable[[str, bytes], Awaitable[int]]
    get: Callable[[str], Awaitable[tuple[int, bytes]]]
    later: Callable[[], Awaitable[None]]
    checks_signatures: bool = True


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    try:
        with s3_server(folder) as server:
            print(f"the S3 side runs against {server.name} at {server.endpoint}")
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def configured(s3: Server) -> Server:
    if not s3.configured:
        pytest.skip("whether the given S3 knows the domain and key of these tests says FLEETLOOP_TEST_S3_CONFIGURED")
    return s3


@pytest.fixture(params=["local", "s3", "s3 by names, encrypted"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    if request.param == "local":
        made = local_bench(tmp_path)
    else:
        encrypted = request.param != "s3"
        made = s3_bench(request.getfixturevalue("configured" if encrypted else "s3"), encrypted=encrypted)
    with answered():
        await made.store.start()
        yield made
        await made.store.close()


def local_bench(root: Path) -> Bench:
    now = [1_700_000_000.0]
    store = LocalStore(root, secrets.token_bytes(32), clock=lambda: now[0])

    async def damage(sha256: str, data: bytes) -> None:
        (root / object_key(sha256)).write_bytes(data)

    async def put(url: str, data: bytes) -> int:
        """What the HTTP route does."""
        grant = granted(store, url, now[0])
        if grant is None or grant.size != len(data):
            return 403

        async def body() -> AsyncIterator[bytes]:
            yield data

        try:
            if grant.part is None:
                await store.put_file(body(), grant.sha256, max_size=grant.size)
            else:
                await store.put_part(grant.sha256, grant, body())
        except Exception:  # noqa: BLE001 - the route answers 4xx, whatever it is
            return 400
        return 200

    async def get(url: str) -> tuple[int, bytes]:
        grant = granted(store, url, now[0])
        return (403, b"") if grant is None else (200, await store.read(grant.sha256))

    async def later() -> None:
        now[0] += 2

    return Bench(store, damage, put, get, later)


def granted(store: LocalStore, url: str, now: float) -> Grant | None:
    parts = urlsplit(url)
    _, _, _, op, sha256 = parts.path.split("/")
    try:
        return store.verify_url(op, sha256, dict(parse_qsl(parts.query)), now)
    except BadUrlError:
        return None


def s3_bench(server: Server, *, encrypted: bool) -> Bench:
    bucket = f"t-{secrets.token_hex(8)}"
    settings = S3Settings(bucket, server.endpoint, None, "us-east-1", server.access_key, server.secret_key)
    if encrypted:
        settings = replace(settings, endpoint=server.by_name, virtual=True, encryption="aws:kms", kms_key=KMS_KEY)
    store = S3Store(settings)

    async def damage(sha256: str, data: bytes) -> None:
        store._client.put_object(Bucket=bucket, Key=object_key(sha256), Body=data)

    async def put(url: str, data: bytes) -> int:
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.put(url, content=data)).status_code

    async def get(url: str) -> tuple[int, bytes]:
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(url)
            return answer.status_code, answer.content

    async def later() -> None:
        await asyncio.sleep(2.1)

    return Bench(store, damage, put, get, later, server.checks_signatures)
