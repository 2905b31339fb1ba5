"""The object store that settings name, and whether devices get there."""

from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from control_plane.kit.errors import Invalid
from control_plane.kit.objects import S3Settings, S3Store
from control_plane.kit.objects.opened import open_objects, unreachable_by_devices
from control_plane.kit.settings import Settings


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def s3(inside: str | None, outside: str | None = None) -> Settings:
    return Settings(object_store="s3://fleet", s3_endpoint=inside, s3_public_endpoint=outside)


async def test_others_are_sent_to_the_endpoint_that_they_reach() -> None:
    store = open_objects(s3("http://10.0.0.7:7480", "https://objects.example.com"))
    assert isinstance(store, S3Store)
    url = await store.upload_url("a" * 64, 10, 60)
    assert url.startswith("https://objects.example.com/fleet/")
    await store.close()


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (s3("http://10.0.0.7:7480"), True),
        (s3("http://10.0.0.7:7480", "http://objects.example.com"), True),
        (s3("http://10.0.0.7:7480", "https://objects.example.com"), False),
        (s3("https://s3.internal"), False),
        (s3(None), False),
        (Settings(home=Path("somewhere")), False),
    ],
)
def test_devices_do_not_leave_tls(settings: Settings, *, refused: bool) -> None:
    assert ("FLEETLOOP_S3_PUBLIC_ENDPOINT" in (unreachable_by_devices(settings) or "")) is refused


@pytest.mark.parametrize(
    ("said", "environment", "start"),
    [
        ({}, None, "https://fleet.s3.amazonaws.com/"),
        ({}, "eu-north-1", "https://fleet.s3.eu-north-1.amazonaws.com/"),
        ({"s3_region": "eu-central-1"}, "eu-north-1", "https://fleet.s3.eu-central-1.amazonaws.com/"),
        ({"s3_addressing": "path", "s3_region": "eu-central-1"}, None, "https://s3.eu-central-1.amazonaws.com/fleet/"),
        ({"s3_endpoint": "https://s3.internal"}, None, "https://s3.internal/fleet/"),
        ({"s3_endpoint": "https://s3.internal", "s3_addressing": "virtual"}, None, "https://fleet.s3.internal/"),
    ],
)
async def test_signed_urls_name_the_region_and_the_bucket_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], environment: str | None, start: str
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    if environment:
        monkeypatch.setenv("AWS_DEFAULT_REGION", environment)
    store = open_objects(Settings.model_validate({"object_store": "s3://fleet"} | said))
    url = await store.download_url("a" * 64, 60)
    assert url.startswith(start)
    region = said.get("s3_region") or environment or "us-east-1"
    assert f"%2F{region}%2Fs3%2Faws4_request" in url
    await store.close()


@pytest.mark.parametrize("said", [None, "AES256"])
def test_a_key_without_its_encryption_is_refused(said: str | None) -> None:
    with pytest.raises(Invalid, match="FLEETLOOP_S3_ENCRYPTION=aws:kms"):
        open_objects(Settings(object_store="s3://fleet", s3_encryption=said, s3_kms_key="ours"))


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
async def test_a_bucket_is_made_in_its_region(region: str) -> None:
    """By moto inside this process: AWS's own refuses a bucket that is made elsewhere without saying where."""
    with mock_aws():
        store = S3Store(S3Settings("fleet", region=region, virtual=True))
        await store.start()
        told = boto3.client("s3", region_name=region).get_bucket_location(Bucket="fleet")["LocationConstraint"]
        assert (told or "us-east-1") == region
        await store.close()
