"""Whatever is kept in S3 is encrypted as the settings say, by whichever road it came."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import boto3
import httpx
import pytest

from control_plane.kit import clock
from control_plane.kit.objects import S3Settings, S3Store
from control_plane.kit.objects.port import Layout
from tests.kit.objects.servers import KMS_KEY, Server

PART = 5 * 1024**2


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def put(url: str, data: bytes) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.put(url, content=data)).status_code == 200


async def test_everything_kept_is_encrypted_with_the_key(
    configured: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = S3Settings("encrypted", configured.endpoint, None, "us-east-1", configured.access_key, configured.secret_key)
    store = S3Store(replace(told, encryption="aws:kms", kms_key=KMS_KEY))
    await store.start()
    await store.put_bytes(b"bytes")
    large = tmp_path / "large"
    large.write_bytes(b"file" * 5 * 1024**2)
    await store.put_file(large)
    await put(await store.upload_url(sha(b"put"), 3, 60), b"put")
    await store.accept(sha(b"put"), 3)
    parted = b"p" * (PART + 1)
    layout = Layout(len(parted), PART)
    for number, url in enumerate(await store.part_urls(sha(parted), layout, [1, 2], 60)):
        await put(url, parted[number * PART : (number + 1) * PART])
    await store.join(sha(parted), layout)
    await store.set_aside(sha(b"bytes"))
    await store.bring_back(sha(b"bytes"))
    assert await store.publish("root.json", b"name")
    later = clock.now() + timedelta(days=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    await store.put_bytes(b"put")  # is made new
    await store.put_file(large)
    kept = [each.sha256 async for each in store.list_objects()]
    assert sorted(kept) == sorted([sha(b"bytes"), sha(b"put"), sha(parted), sha(large.read_bytes())])
    for each in kept:
        assert sha(await store.read(each)) == each
    await store.close()
    heads = _heads(configured, "encrypted")
    assert len(heads) == 5
    assert set(heads.values()) == {("aws:kms", KMS_KEY)}


async def test_what_was_kept_before_is_encrypted_when_it_is_put_again(configured: Server) -> None:
    told = S3Settings("turned-on", configured.endpoint, None, "us-east-1", configured.access_key, configured.secret_key)
    before = S3Store(told)
    await before.start()
    for data in (b"again", b"uploaded", b"left"):
        await before.put_bytes(data)
    await before.close()
    store = S3Store(replace(told, encryption="aws:kms", kms_key=KMS_KEY))
    await store.put_bytes(b"again")
    await store.accept(sha(b"uploaded"), 8)  # nobody had to send it: it is there
    assert await store.read(sha(b"again")) == b"again"
    await store.close()
    heads = {key[-64:]: said for key, said in _heads(configured, "turned-on").items()}
    assert heads[sha(b"again")] == heads[sha(b"uploaded")] == ("aws:kms", KMS_KEY)
    assert heads[sha(b"left")] == ("", "")


def _heads(server: Server, bucket: str) -> dict[str, tuple[str, str]]:
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    client = boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1", **keys)
    found = {}
    for each in client.list_objects_v2(Bucket=bucket)["Contents"]:
        head = client.head_object(Bucket=bucket, Key=each["Key"])
        found[each["Key"]] = (head.get("ServerSideEncryption", ""), head.get("SSEKMSKeyId", ""))
    client.close()
    return found
