"""What a device is told, worked out once for all who are told the same, and written by hand for each of them.

`sign_manifest` (board.py) says the same through pydantic; tests hold the two together.
"""

import base64
import re
import time
from datetime import timedelta

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agents.protocol import v1 as wire
from control_plane.fleet.service import Known
from control_plane.kit import clock
from control_plane.kit.context import Context
from control_plane.kit.signing import Signer
from control_plane.rollout.domain import Order
from control_plane.rollout.service.board import MANIFEST_S, Board, wire_order

OFFERS_MOST = 10_000
TIMES_S = 0.05
KEY_S = 1.0
_KIND = wire.DIRECTOR_PAYLOAD.encode()
_MANIFEST = b'{"schema":"fleetloop.director/v1","device_id":"%b","nonce":"%b","seq":%d,%b%b'
_ENVELOPE = (
    b'{"manifest":{"payloadType":"%b","payload":"%%b","signatures":[{"keyid":"%%b","sig":"%%b"}]},'
    b'"next_check_in_s":%%b}' % _KIND
)


class Offer(msgspec.Struct, eq=False):
    """One answer of the board; `text` is its part of a manifest as of a generation of the board."""

    order: Order | None
    text: bytes = b""
    generation: int = -1


class Offers:
    """The answers of the board, each of them once; and manifests made of them."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._offers: dict[Order | None, Offer] = {}
        self._times, self._times_at_s = b"", float("-inf")

    def of(self, order: Order | None) -> Offer:
        """Return the offer that stands for an order; equal orders have one."""
        if len(self._offers) >= OFFERS_MOST:
            self._offers.clear()
        return self._offers.setdefault(order, Offer(order))

    def holds(self, known: Known, body: bytes) -> Offer | None:
        """Return what a device was last told if that is what it is to be told now, else None.

        `body` is its check-in, looked into only after the board has changed.
        One that was told nothing yet since this process began counts where nobody follows what it does with it.
        """
        offer, generation = known.offer, self._board.generation
        if not self._board.is_fresh:
            return None
        if known.offered_at != generation:
            running = _running(body)
            now = self.of(self._board.order(known.identity, known.floor, running))
            if offer is None and self._may_be_first(now.order, running):
                known.offer = offer = now
            if now is not offer:
                return None
            known.offered_at = generation
        if offer.generation != generation:
            offer.text, offer.generation = self._text(offer.order), generation
        return offer if isinstance(offer, Offer) else None

    def _may_be_first(self, order: Order | None, running: str | None) -> bool:
        """Say whether a device that was told nothing yet may be told this from memory alone."""
        if self._board.tracked or self._board.sends_back(order, running):
            return False
        return order is None or order.rollout_id is None

    def manifest(self, device_id: str, nonce: bytes, seq: int, offer: Offer) -> bytes:
        """Return the bytes of a manifest for one check-in; its times may be `TIMES_S` old."""
        now_s = time.monotonic()
        if now_s - self._times_at_s >= TIMES_S:
            self._times, self._times_at_s = _times(), now_s
        return _MANIFEST % (device_id.encode(), nonce, seq, self._times, offer.text)

    def _text(self, order: Order | None) -> bytes:
        told = wire_order(order).model_dump_json().encode() if order else b"null"
        return b'"revision":%d,"order":%b}' % (self._board.revision, told)


class Director:
    """The newest of our director keys that devices believe by now; looked for again every `KEY_S` and when told so."""

    def __init__(self, context: Context, board: Board) -> None:
        self._context, self._board = context, board
        self._found: tuple[Ed25519PrivateKey, bytes] | None = None
        self._generation, self._at_s = -1, float("-inf")

    @property
    def signer(self) -> Signer:
        if not self._context.keyring.ready:
            return self._context.signers["director"]
        return self._context.keyring.raw("director", self._board.director_keys)

    @property
    def key(self) -> tuple[Ed25519PrivateKey, bytes]:
        """Return the key and its id."""
        now_s = time.monotonic()
        if self._found is None or self._generation != self._board.generation or now_s - self._at_s >= KEY_S:
            private = self.signer.private
            self._found = private, wire.key_id(private.public_key()).encode()
            self._generation, self._at_s = self._board.generation, now_s
        return self._found


_RUNNING = re.compile(rb'"active":\{[^{}]*"content_digest":"([0-9a-f]{64})"')


def _running(body: bytes) -> str | None:
    """Return the content that a check-in, written as the agent does, says the device runs."""
    found = _RUNNING.search(body)
    return found[1].decode() if found else None


def _times() -> bytes:
    now = clock.now()
    issued, expires = (at.isoformat().replace("+00:00", "Z") for at in (now, now + timedelta(seconds=MANIFEST_S)))
    return f'"issued_at":"{issued}","expires_at":"{expires}",'.encode()


def to_sign(payload: bytes) -> bytes:
    return wire.pre_authentication_encoding(wire.DIRECTOR_PAYLOAD, payload)


def reply(payload: bytes, key_id: bytes, signature: bytes, next_check_in_s: bytes) -> bytes:
    """Return a `CheckInReply` as it goes over the wire."""
    return _ENVELOPE % (base64.b64encode(payload), key_id, base64.b64encode(signature), next_check_in_s)
