"""The parts of a check-in from memory: what is read plainly, what is told, and who signs it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agents.protocol import v1 as wire
from control_plane.fleet.domain import DeviceState, Identity, admitted_at_s
from control_plane.fleet.service import SAYS, Known
from control_plane.kit.sign_loop import IS_KEY, frames
from control_plane.kit.signing import BesideSigner, Signer
from control_plane.rollout.device_api.plain import Plain, read_plain
from control_plane.rollout.domain import Order, ReleaseRef
from control_plane.rollout.service import Board, Offers, reply, sign_manifest, to_sign

BODY = SAYS.model_dump_json().encode()
ORDER = Order(
    ReleaseRef("a" * 64, 1234, 9, "c" * 64), "rol_1", 0.25, 'docked and note("ä\\"")', 60.0, 3, site_free=False
)


def read(body: bytes) -> Plain | None:
    """Read all of a check-in plainly, as `quick` does."""
    found = read_plain(body)
    return found if found is not None and found.are_gauges() and found.are_facts() else None


def test_what_the_agent_sends_is_plain_and_read_as_it_is() -> None:
    found = read(BODY)
    assert found is not None
    assert (found.boot_id.decode(), found.seq, found.nonce.decode()) == (SAYS.boot_id, SAYS.seq, SAYS.nonce)
    assert json.loads(found.gauges) == SAYS.spool
    assert json.loads(found.facts) == SAYS.platform
    assert read(BODY.replace(b'"trust_revision":0,', b"")) is not None  # agents of earlier releases


def test_whatever_is_news_has_another_name() -> None:
    base = read(BODY)
    assert base is not None
    same = SAYS.model_copy(update={"seq": 7, "nonce": "f" * 32, "spool": {}, "platform": {}, "trust_revision": 4})
    news: list[dict[str, Any]] = [
        {"boot_id": "other"},
        {"agent_version": "9"},
        {"counter_floor": 8},
        {"active": None},
        {"deployment": None},
        {"deployment": SAYS.deployment.model_copy(update={"detail": "x"}) if SAYS.deployment else None},
    ]
    found = read(same.model_dump_json().encode())
    assert found is not None
    assert found.said == base.said
    names = {base.said}
    for change in news:
        other = read(SAYS.model_copy(update=change).model_dump_json().encode())
        assert other is not None
        names.add(other.said)
    assert len(names) == 1 + len(news)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"seq":', b'"seq":1,"seq":'),
        (b'"seq":', b'"seq" :1,"seq":'),
        (b'"seq":', b'"seq"\n:1,"seq":'),
        (b'"seq":', b'"s\\u0065q":1,"seq":'),
        (b'"windows":', b'"windows":1,"windows":'),
        (b'"cores":', b'"cores":1,"cores":'),
        (b'"cores":8', b'"cores":{"a":1}'),
        (b'"cores":8', b'"cores":NaN'),
        (b'"cores":8', b'"cores":1e999'),
        (b'"cores":8', b'"cores":' + b"9" * 5000),
        (b'"windows":0.0', b'"windows":-1.0'),
        (b"aarch64", b"aarch\xff"),
        (b"aarch64", b"aarch\x01"),
        (b"aarch64", b"aarch\\u0000"),
        (b"aarch64", b"a" * (64 << 10)),
        (b'"nonce":"' + b"0" * 32, b'"nonce":"short'),
        (b'"seq":0', b'"seq":-1'),
        (b'"sent_at":"2026-01-01T00:00:00Z"', b'"sent_at":"2026-01-01T00:00:00"'),
        (b"}", b"},"),
        (BODY, b"[]"),
        (BODY, b""),
    ],
)
def test_what_has_two_readings_or_none_is_not_plain(old: bytes, new: bytes) -> None:
    assert old in BODY
    assert read(BODY.replace(old, new, 1)) is None


TEXT = st.sampled_from(
    ['"seq":', '"seq" :', "1", ",", "{", "}", '"a"', ":", " ", '"spool":{', '"active":', "null", '"']
)


@given(st.lists(TEXT, max_size=8), st.integers(0, len(BODY)))
def test_nothing_is_plain_that_the_strict_reader_refuses(pieces: list[str], at: int) -> None:
    body, base = BODY[:at] + "".join(pieces).encode() + BODY[at:], read(BODY)
    found = read(body)
    if found is not None and base is not None and found.said == base.said:  # else it is news, and read strictly
        wire.CheckIn.model_validate(wire.strict_json(body, 1 << 20))


@pytest.mark.parametrize("order", [None, ORDER, Order(ORDER.release, None)])
async def test_a_manifest_by_hand_says_what_pydantic_says_and_verifies(order: Order | None) -> None:
    key = Ed25519PrivateKey.generate()
    who = Identity("dev_1", "cart", "north", DeviceState.ACTIVE, "ab" * 32)
    offers = Offers(board := telling(order))
    board.read_at = asyncio.get_running_loop().time()
    known = Known(who.id, "cart", "north", DeviceState.ACTIVE, b"k" * 32, denied=False, offer=offers.of(order))
    offer = offers.holds(known, BODY)
    assert offer is not None
    payload = offers.manifest(who.id, SAYS.nonce.encode(), SAYS.seq, offer)
    sealed = reply(payload, wire.key_id(key.public_key()).encode(), key.sign(to_sign(payload)), b"30.0")
    answered = wire.CheckInReply.model_validate(wire.strict_json(sealed, 1 << 20))
    slow = sign_manifest(Signer(key), who, SAYS, order, 17)
    by_hand, by_pydantic = (opened(each, key) for each in (answered.manifest, slow))
    times = {"issued_at": by_hand.issued_at, "expires_at": by_hand.expires_at}
    assert by_hand == by_pydantic.model_copy(update=times)
    assert by_hand.expires_at - by_hand.issued_at == by_pydantic.expires_at - by_pydantic.issued_at
    assert abs((by_hand.issued_at - by_pydantic.issued_at).total_seconds()) < 5
    assert answered.next_check_in_s == 30.0


def telling(order: Order | None) -> Board:
    class Telling(Board):
        def order(self, who: Identity, floor: int, running: str | None) -> Order | None:
            return order

    return Telling(revision=17)


def opened(envelope: wire.Envelope, key: Ed25519PrivateKey) -> wire.DirectorManifest:
    trusted = {wire.key_id(key.public_key()): key.public_key()}
    payload = wire.open_envelope(envelope, wire.DIRECTOR_PAYLOAD, trusted)
    return wire.DirectorManifest.model_validate(wire.strict_json(payload, 1 << 20))


async def test_another_order_is_no_offer_that_holds() -> None:
    offers = Offers(board := Board())
    board.read_at = asyncio.get_running_loop().time()
    known = Known("dev_1", "cart", "north", DeviceState.ACTIVE, b"k" * 32, denied=False, offer=offers.of(ORDER))
    assert offers.holds(known, BODY) is None  # the board offers nothing
    known.offer = offers.of(None)
    assert offers.holds(known, BODY) is known.offer
    board.read_at = -1e9
    assert offers.holds(known, BODY) is None  # and is too old now


def test_an_allowance_is_ten_seconds_at_once_and_then_its_rate() -> None:
    free_at_s, admitted = 0.0, 0
    for _ in range(40):
        free_at_s, wait_s = admitted_at_s(free_at_s, 2.0, 1000.0)
        admitted += not wait_s
    assert admitted == 20
    assert 0 < admitted_at_s(free_at_s, 2.0, 1000.0)[1] <= 0.5
    assert admitted_at_s(free_at_s, 2.0, 1000.5)[1] == 0
    assert admitted_at_s(free_at_s, 2.0, 2000.0)[0] == 2000.5


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=50)), max_size=6), st.integers(1, 20))
def test_frames_come_whole_however_they_are_cut(sent: list[tuple[bool, bytes]], size: int) -> None:
    stream = b"".join((len(data) | (IS_KEY if key else 0)).to_bytes(4, "big") + data for key, data in sent)
    buffer, got = bytearray(), []
    for at in range(0, len(stream), size):
        buffer += stream[at : at + size]
        got += list(frames(buffer))
    assert got == sent
    assert buffer == b""


@pytest.fixture
def keys() -> list[Ed25519PrivateKey]:
    return [Ed25519PrivateKey.generate() for _ in range(2)]


async def until(true: Callable[[], bool]) -> None:
    for _ in range(6000):  # a busy machine starts a process slowly
        if true():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it does not become true")


async def signatures(signer: BesideSigner, key: Ed25519PrivateKey, count: int) -> None:
    """Ask for signatures and check them."""
    found: dict[int, bytes] = {}
    for number in range(count):
        signer.sign(key, b"%d" % number, lambda signature, number=number: found.__setitem__(number, signature))
    await until(lambda: len(found) == count)
    for number, signature in found.items():
        key.public_key().verify(signature, b"%d" % number)


async def test_signing_goes_on_whatever_becomes_of_the_process_beside(keys: list[Ed25519PrivateKey]) -> None:
    signer = BesideSigner()
    await signatures(signer, keys[0], 3)  # nobody is beside yet
    running = asyncio.create_task(signer.run())
    try:
        for _ in range(2):
            await until(lambda: signer._transport is not None)
            await signatures(signer, keys[0], 500)
            await signatures(signer, keys[1], 5)
            [beside] = [each for each in psutil.Process().children() if "sign_loop" in " ".join(each.cmdline())]
            for number in range(50):
                signer.sign(keys[0], b"%d" % number, lambda _: None)
            beside.kill()
            await signatures(signer, keys[0], 50)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [each for each in psutil.Process().children() if "sign_loop" in " ".join(each.cmdline())] == []
