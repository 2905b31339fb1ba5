"""Makes a simulated fleet in an installation's database, and the few of its devices that really speak."""

import ssl
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.protocol import v1 as wire
from control_plane.cli.simulated_load import Speaker, Teller
from control_plane.fleet import service as fleet
from control_plane.kit import clock
from control_plane.kit.certificates import Authority, load_authority, private_pem, spki_sha256
from control_plane.kit.db import Database

ROWS_AT_ONCE = 50_000
FIRST_SEQ = 1_000_000
NONCE = "0" * 32


@dataclass(frozen=True, slots=True)
class Plan:
    """How many devices there are to be, numbered from `first`, and how many of them, evenly spread, speak."""

    devices: int
    speakers: int
    classes: Sequence[str]
    sites: Sequence[str]
    first: int = 0

    @property
    def speaking(self) -> list[int]:
        return [self.first + index * self.devices // self.speakers for index in range(self.speakers)]


@dataclass(frozen=True, slots=True)
class Voice:
    """A simulated device with its key and certificate (PEM)."""

    id: str
    boot_id: str
    key: EllipticCurvePrivateKey
    certificate_pem: str

    def body(self) -> tuple[bytes, bytes]:
        """Return a check-in before its number and after its nonce, as the agent of a quiet robot writes it."""
        message = fleet.SAYS.model_copy(update={"boot_id": self.boot_id, "seq": FIRST_SEQ, "nonce": NONCE})
        begin, rest = message.model_dump_json().encode().split(str(FIRST_SEQ).encode(), 1)
        return begin, rest.split(NONCE.encode(), 1)[1]

    def speaker(self, *, proxied: bool) -> Speaker:
        begin, tail = self.body()
        size = len(begin) + len(str(FIRST_SEQ)) + len(b',"nonce":"') + 32 + len(tail)
        head = b"%bContent-Length: %d\r\n\r\n" % (self.head("check-in", proxied=proxied), size)
        return Speaker(head + begin, tail, FIRST_SEQ)

    def teller(self, *, proxied: bool) -> Teller:
        now = clock.now()
        window = wire.ExposureWindow(
            seq=FIRST_SEQ,
            content_digest=fleet.SAYS.active.content_digest if fleet.SAYS.active else "",
            started_at=now - timedelta(seconds=10),
            ended_at=now,
            distance_m=12.5,
            duration_s=10,
            decisions=100,
            latency_p50_ms=4,
            latency_p99_ms=9,
        )
        batch = wire.TelemetryBatch(stream_id=f"sim-{now.timestamp():.0f}", windows=(window,))
        heat = {"temperature_max_c", "throttled_s"}  # left out, as by agents of machines without sensors
        before, after = (
            batch.model_dump_json(exclude={"windows": {"__all__": heat}}).encode().split(str(FIRST_SEQ).encode(), 1)
        )
        return Teller(self.head("telemetry", proxied=proxied), before, after)

    def head(self, route: str, *, proxied: bool) -> bytes:
        """Return the head of a request to a device route, but for its length and its end."""
        head = f"POST /device/v1/{route} HTTP/1.1\r\nHost: simulated\r\nContent-Type: application/json\r\n"
        if proxied:
            head += f"X-Real-IP: 127.0.0.1\r\nFleetloop-Client-Cert: {urllib.parse.quote(self.certificate_pem)}\r\n"
        return head.encode()


def shares(voices: Sequence[Voice], lanes: int, windows: float, *, proxied: bool) -> list[list[Speaker | Teller]]:
    """Return who speaks on each connection: every device checks in, and `windows` of them (0 to 1) report as often."""
    found: list[list[Speaker | Teller]] = [[] for _ in range(lanes)]
    due = 0.0
    for number, voice in enumerate(voices):
        found[number % lanes].append(voice.speaker(proxied=proxied))
        due += windows
        if due >= 1:
            due -= 1
            found[number % lanes].append(voice.teller(proxied=proxied))
    return found


async def make(
    database_url: str, authority_file: Path, trust_domain: str, plan: Plan, tick: Callable[[int], None]
) -> list[Voice]:
    """Add the fleet, `tick` is told how many devices are there; return those that speak."""
    authority = load_authority(authority_file, trust_domain, clock.now())
    voices = list(_voices(authority, plan.speaking))
    made = [_made_up(number, voice) for number, voice in zip(plan.speaking, voices, strict=True)]
    database = Database(database_url, pool_size=1)
    try:
        for start in range(plan.first, plan.first + plan.devices, ROWS_AT_ONCE):
            numbers = range(start, min(start + ROWS_AT_ONCE, plan.first + plan.devices))
            speakers = [one for one in made if one.number in numbers]
            async with database.transaction() as session:
                await fleet.add_simulated(session, numbers, speakers, plan.classes, plan.sites)
            tick(numbers.stop - plan.first)
    finally:
        await database.close()
    return voices


def _voices(authority: Authority, numbers: Sequence[int]) -> Iterator[Voice]:
    for number in numbers:
        key, device_id = generate_private_key(SECP256R1()), fleet.simulated_id(number)
        made = authority.issue_device(key.public_key(), device_id, clock.now())
        yield Voice(device_id, fleet.simulated_boot(number), key, made.public_bytes(Encoding.PEM).decode())


def _made_up(number: int, voice: Voice) -> fleet.MadeUp:
    public = voice.key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return fleet.MadeUp(number, pem, spki_sha256(public))


def tls_contexts(voices: Sequence[Voice], authority_file: Path) -> list[ssl.SSLContext]:
    """Return with what each device comes by TLS; it believes this installation's authority."""
    authority = load_authority(authority_file, "unused", clock.now())
    return [_context(voice, authority.pem) for voice in voices]


def _context(voice: Voice, authority_pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority_pem)
    # The ssl module reads keys from files only.
    with tempfile.NamedTemporaryFile(prefix="fleetloop-") as file:
        file.write(private_pem(voice.key) + voice.certificate_pem.encode())
        file.flush()
        context.load_cert_chain(file.name)
    return context
