"""TUF metadata from an attacker, cases A1 to A20 of the attack list: refused, named, and got over."""

import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from securesystemslib.signer import CryptoSigner

from agents.link import Identity
from agents.sdk import StateDir
from agents.update import anchor as anchors
from tests.agent.bundles import files, release
from tests.agent.server import Door
from tests.support.attacks import Device, HostileServer, answers, resigned
from tests.support.trust import id_of

THIEF = CryptoSigner.generate_ed25519()


@pytest.fixture
def server(door: tuple[Door, str]) -> HostileServer:
    hostile = HostileServer(url=door[1], life_s=5 * 86400.0)
    hostile.tuf.signers["root"] = [CryptoSigner.generate_ed25519() for _ in range(2)]
    door[0].behind = hostile
    return hostile


@pytest.fixture
async def device(
    server: HostileServer, identity: Identity, http: httpx.AsyncClient, state: StateDir
) -> AsyncIterator[Device]:
    """A device that runs counter 1 and is ordered counter 2."""
    device = Device(http, state, server)
    await device.installs(release(server, 1, files(1.0)))
    server.order = release(server, 2, files(2.0)).order
    yield device
    await device.close()


async def recovers(device: Device) -> None:
    """Take the release that the attack kept away."""
    for _ in range(16):
        if device.runs == 2:
            return
        await device.live(1)
    raise AssertionError(f"{device.loop.state.phase} {device.words[-4:]}")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "releases"])
@pytest.mark.parametrize("signed", [True, False])
async def test_a01_metadata_that_the_role_did_not_sign(
    device: Device, server: HostileServer, role: str, signed: bool
) -> None:
    name = server.now(role)
    forged = resigned(server.tuf.files[name], *([THIEF] if signed else []))
    with server.lying({f"tuf/{name}": forged}):
        await device.withstands("metadata_unsigned")
    await recovers(device)


@pytest.mark.parametrize("signers", [0, 1, "thieves", "one twice"])
async def test_a01_a_root_under_its_threshold(device: Device, server: HostileServer, signers: Any) -> None:
    one, other = server.tuf.signers["root"]
    by = {0: (), 1: (one,), "thieves": (THIEF, CryptoSigner.generate_ed25519()), "one twice": (one, one)}[signers]
    forged = resigned(server.tuf.root, *by, version=2)
    with server.lying({"tuf/2.root.json": forged}):
        await device.withstands("metadata_unsigned")
    assert other is not one
    await recovers(device)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "releases"])
async def test_a03_expired_metadata_blocks_installs_and_nothing_else(
    device: Device, server: HostileServer, role: str
) -> None:
    server.tuf.life[role] = timedelta(seconds=-1)
    server.publish()
    await device.withstands("metadata_expired")
    server.tuf.life[role] = timedelta(days=1)
    server.publish()
    await recovers(device)


async def test_a03_an_expired_root_is_an_alarm_of_its_own(device: Device, server: HostileServer) -> None:
    server.tuf.life["root"] = timedelta(seconds=-1)
    server.tuf.publish_root()
    server.publish()
    await device.withstands("root_chain_broken")
    server.tuf.life["root"] = timedelta(days=1)
    server.tuf.publish_root()
    await recovers(device)


def clock_at(monkeypatch: pytest.MonkeyPatch, at: datetime) -> None:
    """Set the clock that the device's trust reads."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Clock":
            return cls.fromtimestamp(at.timestamp(), tz)

    monkeypatch.setattr(anchors, "datetime", Clock)


async def test_a04_a_clock_of_1970_does_not_make_a_frozen_repository_fresh(
    device: Device, server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(server.requests)
    with monkeypatch.context() as patch:
        clock_at(patch, datetime(1970, 1, 2, tzinfo=UTC))
        await device.withstands("clock_behind")
    asked = [request.path for request in server.requests[before:]]
    assert not any("timestamp.json" in path for path in asked), "it did not even look"
    await recovers(device)


async def test_a05_a_clock_that_was_years_ahead_leaves_no_trace(
    device: Device, server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor = device.anchor.time_floor
    with monkeypatch.context() as patch:
        # The approvals of today are over by then.
        clock_at(patch, datetime.now(UTC) + timedelta(days=5 * 365))
        await device.withstands("not_approved")
    assert device.anchor.time_floor == floor
    await recovers(device)


async def test_a05_a_thief_without_an_end_cannot_push_the_time_floor_away(
    device: Device, server: HostileServer
) -> None:
    device.anchor.heard_time(datetime.now(UTC) + timedelta(days=4000), id_of(server.director))
    assert device.anchor.time_floor <= datetime.now(UTC)
    await recovers(device)


async def test_a06_a_snapshot_that_names_older_targets_is_refused(device: Device, server: HostileServer) -> None:
    """By one who holds the keys of snapshot and timestamp."""
    await device.keeper.once()
    server.publish()
    await device.keeper.once()
    server.tuf.versions["targets"] -= 1
    server.tuf.publish("releases", "revocations")
    server.put(b"")
    await device.restart()
    await device.withstands("metadata_rollback")
    server.tuf.versions["targets"] += 1
    server.publish()
    await recovers(device)


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
async def test_a06_an_older_version_is_refused(device: Device, server: HostileServer, role: str) -> None:
    await device.keeper.once()
    now = server.now(role)
    old = server.tuf.files["timestamp.json"] if role == "timestamp" else server.tuf.files["1.snapshot.json"]
    server.publish()
    lie = {f"tuf/{now}" if role == "timestamp" else f"tuf/{server.now(role)}": old}
    if role == "timestamp":
        await device.keeper.once()
    with server.lying(lie):
        await device.restart()
        await device.withstands("metadata_rollback")
    await recovers(device)


def served(server: HostileServer) -> dict[str, bytes]:
    return dict(server.tuf.files)


async def test_a07_rollback_after_the_cache_is_deleted(device: Device, server: HostileServer) -> None:
    """Everything is as it was published once, and fresh: only the device knows that there was more."""
    old = served(server)
    server.publish()
    await device.keeper.once()
    new = served(server)
    await wiped(device)
    server.tuf.files = old
    await device.withstands("metadata_rollback")
    server.tuf.files = new
    await recovers(device)


async def test_a07_with_a_stolen_key_that_a_newer_root_took_back(device: Device, server: HostileServer) -> None:
    """The thief withholds the new root: under the old one his keys are good, and the versions begin where he likes."""
    old = served(server)
    stolen = {role: server.tuf.signers[role] for role in ("timestamp", "snapshot")}
    for role in stolen:
        server.tuf.signers[role] = [CryptoSigner.generate_ed25519()]
    server.tuf.publish_root()
    server.publish()
    await device.keeper.once()
    new = served(server)
    await wiped(device)
    forged = resigned(old["timestamp.json"], *stolen["timestamp"], version=5000)
    server.tuf.files = old | {"timestamp.json": forged}
    await device.withstands("root_rollback")
    await device.restart()
    await device.withstands("root_rollback")
    server.tuf.files = new
    await recovers(device)


async def wiped(device: Device) -> None:
    shutil.rmtree(device.anchor.cache)
    await device.restart()


@pytest.mark.parametrize("status", [403, 404])
async def test_a08_a_root_missing_in_the_chain_is_an_alarm(device: Device, server: HostileServer, status: int) -> None:
    for _ in range(3):
        server.tuf.signers["timestamp"] = [CryptoSigner.generate_ed25519()]
        server.tuf.publish_root()
    server.publish()
    expected = {403: "server_unreachable", 404: "metadata_unsigned"}[status]
    with server.lying({"tuf/3.root.json": answers(b"no", status)}):
        await device.withstands(expected)
    await recovers(device)


@pytest.mark.parametrize(("rotations", "good"), [(250, True), (300, False)])
async def test_a09_root_rotations_are_bounded(
    device: Device, server: HostileServer, rotations: int, good: bool
) -> None:
    for _ in range(rotations):
        server.tuf.publish_root()
    server.tuf.signers["timestamp"] = [CryptoSigner.generate_ed25519()]
    server.tuf.publish_root()
    server.publish()
    if good:
        await recovers(device)
        return
    before = len(server.requests)
    await device.withstands("metadata_unsigned", rounds=1)
    asked = {request.path for request in server.requests[before:] if "root.json" in request.path}
    assert len(asked) <= 256
    assert device.runs == 1


@pytest.mark.parametrize("version", [2**31, 2**53 - 2, 2**63])
async def test_a10_fast_forwarded_versions_end_with_the_keys(
    device: Device, server: HostileServer, version: int
) -> None:
    """Whoever had the online keys left versions that nobody can follow; new keys begin anew."""
    server.tuf.versions |= {"timestamp": version, "snapshot": version}
    server.publish()
    await device.keeper.once()
    assert (device.anchor.revision == version + 1) is (version < 2**53)
    server.tuf.versions |= {"timestamp": 50, "snapshot": 50}
    server.publish()
    await device.restart()
    await device.withstands("metadata_rollback")
    for role in ("timestamp", "snapshot"):
        server.tuf.signers[role] = [CryptoSigner.generate_ed25519()]
    server.tuf.publish_root()
    server.publish()
    await recovers(device)
    assert device.anchor.revision < 100
