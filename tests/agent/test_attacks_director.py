"""Check-ins with a director, a network or a server that lies: cases E52 to E59, J101."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from agents.link import Backoff, BlobStore, Identity
from agents.link.backoff import LONGEST_WAIT_S
from agents.protocol.v1 import DeploymentPhase as P
from agents.protocol.v1 import ReleaseOrder, canonical_json
from agents.protocol.v1.trust import Revocations, TrustKey
from agents.sdk import StateDir
from agents.update import Slots
from tests.agent.bundles import files, release
from tests.agent.server import Door
from tests.agent.test_agent_process import enrolled, reported, running, speak, until
from tests.support.attacks import Device, HostileServer, answers, endless
from tests.support.trust import Ring, id_of, public_hex


@pytest.fixture
def server(door: tuple[Door, str]) -> HostileServer:
    door[0].behind = HostileServer(url=door[1], life_s=5 * 86400.0)
    return door[0].behind


@pytest.fixture
async def device(
    server: HostileServer, identity: Identity, http: httpx.AsyncClient, state: StateDir
) -> AsyncIterator[Device]:
    device = Device(http, state, server)
    await device.installs(release(server, 1, files(1.0)))
    yield device
    await device.close()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("other_device", "other_device"),
        ("wrong_nonce", "wrong_nonce"),
        ("old_seq", "old_seq"),
        ("expired", "expired"),
        ("wrong_key", "bad_signature"),
        ("wrong_type", "bad_signature"),
    ],
)
async def test_e52_a_manifest_that_is_not_for_this_check_in(
    device: Device, server: HostileServer, fault: str, reason: str
) -> None:
    server.order = release(server, 2, files(2.0)).order
    server.faults.add(fault)
    if fault == "old_seq":
        await device.check_ins.once()
        server.replay = None
    await device.withstands(reason)
    server.faults.clear()
    for _ in range(10):
        await device.live(1)
    assert device.runs == 2


async def test_e52_a_manifest_is_good_for_no_later_agent(device: Device, server: HostileServer) -> None:
    """What was signed before the restart answers nothing after it, nor does it after the next."""
    server.order = release(server, 2, files(2.0)).order
    server.replay = None
    await device.check_ins.once()  # this answer is kept
    server.faults.add("replay")
    for _ in range(2):
        await device.restart()
        await device.withstands("wrong_nonce")


async def test_e52_a_retired_or_revoked_director_is_not_heard(device: Device, server: HostileServer) -> None:
    old, server.ring = server.ring, Ring(trainer=server.ring.trainer, gate=server.ring.gate, people=server.ring.people)
    server.policy = {"version": 2}
    server.publish()
    await device.keeper.once()
    new, server.ring = server.ring, old
    await device.withstands("bad_signature")
    server.ring = new
    await device.live(2)
    assert device.check_ins.last_error is None
    server.revocations = Revocations(keys=(id_of(new.director),))
    server.publish()
    await device.keeper.once()
    await device.withstands("bad_signature")


async def test_e52_a_directors_key_ends(device: Device, server: HostileServer) -> None:
    over = datetime.now(UTC) - timedelta(hours=1)
    key = TrustKey(public=public_hex(server.director), owner="director", not_after=over)
    kept = server.ring.policy().keys
    server.policy = {"version": 2, "keys": {**kept, id_of(server.director): key}}
    server.publish()
    await device.keeper.once()
    await device.withstands("bad_signature")


async def test_e53_what_the_director_orders_must_be_what_is_listed(device: Device, server: HostileServer) -> None:
    built = release(server, 2, files(2.0))
    listed = server.releases.pop(built.order.release_digest)
    vouched = server.vouches.pop(built.order.release_digest)
    server.publish()
    server.order = built.order
    await device.withstands("not_listed")
    other = release(server, 3, files(3.0))
    # Listed under the name of one release is another.
    server.releases[other.order.release_digest], server.vouches[other.order.release_digest] = listed, vouched
    server.publish()
    server.order = other.order
    await device.withstands("listed_otherwise")
    assert device.loop.state.phase is P.REFUSED


async def test_e54_lower_counters_and_other_classes(device: Device, server: HostileServer) -> None:
    await device.installs(release(server, 5, files(5.0)))
    for counter in (1, 4):
        server.order = release(server, counter, files(float(10 + counter))).order
        await device.withstands("counter_below_floor")
    server.order = release(server, 6, files(6.0), device_classes=["cart"]).order
    await device.withstands("wrong_device_class")
    wiped = device.state.private / "journal.db"
    await device.close()
    for path in device.state.private.glob("journal.db*"):
        path.unlink()
    assert not wiped.exists()
    device._begin()
    server.order = release(server, 3, files(33.0)).order
    await device.withstands("counter_below_floor")


GARBAGE = {
    "an error": answers(b"down", 500),
    "a portal": answers(b"<html>please log in</html>", 200, content_type="text/html"),
    "a portal's redirect": answers(b"", 302, location="http://portal.invalid/login"),
    "nothing": answers(b""),
    "null": answers(b"null"),
    "deep": answers(b"[" * 100_000),
    "without end": endless(b" " * 65536),
    "a drip": endless(b" ", pause_s=0.2, content_length="5000"),
    "too many": answers(b"slow down", 429, retry_after="1"),
    "an empty list": answers(b"[]"),
    "no manifest": answers(b'{"next_check_in_s":1}'),
}


@pytest.mark.parametrize("kind", list(GARBAGE))
async def test_e58_whatever_answers_the_state_is_kept(device: Device, server: HostileServer, kind: str) -> None:
    device.client._timeout_s = 1.5
    before = device.loop.state
    with server.lying({"check-in": GARBAGE[kind]}):
        assert await device.check_ins.once() >= 0.1
        await device.withstands(rounds=1)
    assert device.loop.state == before
    assert device.check_ins.last_error is not None
    await device.live(1)
    assert device.check_ins.last_error is None


@pytest.mark.parametrize("asked_s", [0, -1, -1e9, 1e9, 1e308])
async def test_e59_a_period_that_makes_no_sense_is_bounded(
    device: Device, server: HostileServer, asked_s: float
) -> None:
    server.period_s = asked_s
    wait_s = await device.check_ins.once()
    assert device.check_ins.last_error is None
    assert 0.1 < wait_s < LONGEST_WAIT_S * 1.06
    assert 0.1 <= Backoff().failed(1e12) <= LONGEST_WAIT_S + 60


async def test_e59_infinity_is_no_number(device: Device, server: HostileServer) -> None:
    server.faults.add("nan")
    await device.withstands(rounds=1)
    assert "NaN" in (device.check_ins.last_error or "")


def test_e54_an_order_is_bounded() -> None:
    plain: dict[str, Any] = {"release_digest": "a" * 64, "size_bytes": 10, "counter": 1}
    beyond: list[dict[str, Any]] = [
        {"size_bytes": 2 << 20}, {"stage_fraction": 0.0}, {"stage_fraction": 1.1}, {"shadow_s": 1e9}, {"shadow_s": -1},
        {"counter": 0}, {"release_digest": "A" * 64}, {"safe_state": "x" * 2000},
    ]  # fmt: skip
    for changes in beyond:
        with pytest.raises(ValidationError):
            ReleaseOrder.model_validate_json(canonical_json({**plain, **changes}))


async def test_j101_too_many_revocations_let_nothing_in_and_nothing_crash(
    device: Device, server: HostileServer
) -> None:
    """By a thief of the revocations' key: more than a device can keep, and what it had must not be forgotten."""
    first = release(server, 2, files(2.0))
    server.revocations = Revocations(release_digests=(first.order.release_digest,))
    server.publish()
    await device.keeper.once()
    for part in range(3):
        digests = tuple(f"{number:064x}" for number in range(part * 20_000, (part + 1) * 20_000))
        server.revocations = Revocations(release_digests=digests)
        server.publish()
        await device.keeper.once()
    server.order = release(server, 3, files(3.0)).order
    await device.withstands("too_many_revocations")
    await device.restart()
    server.order = first.order
    await device.withstands("too_many_revocations", "revoked")
    server.revocations = Revocations(epoch=1)
    server.policy = {"version": 2, "revocation_epoch": 1}
    server.publish()
    await device.installs(release(server, 4, files(4.0)))


def test_j101_a_revoked_release_is_left_within_one_check_in(server: HostileServer, state: StateDir) -> None:
    """By the real program: back to what ran before, which was not revoked; the server names a newer revision."""
    enrolled(server, state)
    old = release(server, 1, files(1.0))
    server.order = old.order
    slots = Slots(state, BlobStore(state.blobs))
    with running("run", "--state-dir", str(state.root)):
        until(lambda: speak(state) and reported(server, P.COMMITTED))
        bad = release(server, 2, files(2.0))
        server.order = bad.order
        until(lambda: speak(state) and reported(server, P.COMMITTED) and runs(slots) == 2)
        server.period_s = 4.0
        server.revocations = Revocations(release_digests=(bad.order.release_digest,))
        server.publish()
        before = len(server.check_ins)
        until(lambda: runs(slots) == 1)
        # One that was on its way, the one that names the newer revision, and the hurried one after the list was read.
        assert len(server.check_ins) - before <= 3
        until(lambda: server.check_ins[-1].active is not None and server.check_ins[-1].active.counter == 1)


def runs(slots: Slots) -> int | None:
    slot = slots.running()
    return None if slot is None else slot.counter


@pytest.mark.parametrize("what", ["gate", "approver"])
async def test_j101_what_waits_for_its_switch_is_asked_again_when_a_key_is_revoked(
    device: Device, server: HostileServer, what: str
) -> None:
    """The theft is found out while the robot moves: the model of the thief lies in its slot, and never runs."""
    server.order = release(server, 2, files(2.0)).order
    device.signals.put_motion(moving=True, safe_to_switch=False)
    for _ in range(8):
        await device.live(1)
    assert (device.loop.state.phase, device.runs) == (P.ARMED, 1)
    stolen = server.ring.gate if what == "gate" else server.ring.people["ada"]
    server.revocations = Revocations(keys=(id_of(stolen),))
    server.publish()
    await device.keeper.once()
    await device.restart()
    device.signals.put_motion(moving=False, safe_to_switch=True)
    await device.withstands("revoked")
    assert device.loop.state.phase is P.REFUSED
