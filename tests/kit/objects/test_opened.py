"""The object store that settings name, and whether devices get there."""

from pathlib import Path

import pytest

from control_plane.kit.objects import S3Store
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
