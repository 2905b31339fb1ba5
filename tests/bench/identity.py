"""What it costs the server to know who speaks: check-ins by client certificate against check-ins by signature.

Both go to one API process with its PostgreSQL, in turns, over kept-alive connections, one for each device. By signature
they come over plain HTTP and every one is verified; by certificate over TLS 1.3, where the handshake has proven the key
once and every byte is encrypted. The ratio says how much more one of them costs. `tls_handshake` is the server's CPU
time for one whole connection with both certificates and one check-in, beside one check-in on a connection that stands.
"""

import asyncio
import ssl
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import httpx
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agents.protocol import v1 as wire
from control_plane.cli.stack import Stack
from tests.bench.check_in import message
from tests.bench.figure import Figure, cost, rate, say
from tests.bench.load import Lane, Tally
from tests.bench.rounds import cpu_s
from tests.bench.stage import Device, enrol, installation

DEVICES, ROUNDS, SECONDS, AHEAD, HANDSHAKES = 32, 5, 2.0, 400, 300
Contexts = Sequence["ssl.SSLContext | None"]


def certified(stack: Stack, device: Device, folder: Path) -> ssl.SSLContext:
    """Give a device its certificate and return the context it comes with."""
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(device.key, hashes.SHA256())
    body = wire.RenewRequest(csr_pem=csr.public_bytes(Encoding.PEM).decode()).model_dump_json().encode()
    signed = device.request("POST", "/device/v1/renew", body).split(b"\r\n\r\n", 1)[0].decode().split("\r\n")[1:]
    headers = dict(line.split(": ", 1) for line in signed if line.startswith("Fleetloop"))
    answer = httpx.post(f"{stack.url}/device/v1/renew", content=body, headers=headers).raise_for_status()
    reply = wire.RenewReply.model_validate_json(answer.content)
    key = device.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(key)
    (folder / "device.crt").write_text(reply.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=reply.ca_pem)
    context.load_cert_chain(folder / "device.crt", folder / "key.pem")
    return context


def requests(device: Device, seqs: range, *, signed: bool) -> list[bytes]:
    bodies = [message(f"b-{device.id}"[:60], seq) for seq in seqs]
    if signed:
        return [device.request("POST", "/device/v1/check-in", body) for body in bodies]
    head = "POST /device/v1/check-in HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    return [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]


async def drive(port: int, lanes: list[list[bytes]], contexts: Contexts, seconds: float) -> int:
    """Send what the lanes hold until the time is over; return how many were answered well."""
    loop, tally = asyncio.get_running_loop(), Tally(time.perf_counter() + seconds)
    made = [
        await loop.create_connection(lambda r=r: Lane(r, 0, tally, wrap=False), "127.0.0.1", port, ssl=context)
        for r, context in zip(lanes, contexts, strict=True)
    ]
    await asyncio.gather(*(lane.over for _, lane in made))
    if tally.bad:
        raise RuntimeError(f"{tally.bad} check-ins were refused, the first with {tally.first_bad}")
    return tally.done


def spent(stack: Stack, name: str, port: int, lanes: list[list[bytes]], contexts: Contexts) -> tuple[int, float]:
    """Return how many check-ins were answered and the CPU seconds the process `name` spent on them."""
    pid = stack.supervisor.pid(name) or 0
    before = cpu_s(pid)
    done = uvloop.run(drive(port, lanes, contexts, SECONDS))
    return done, cpu_s(pid) - before


def bench() -> Iterable[Figure]:
    with installation(devices=True) as stack, tempfile.TemporaryDirectory(prefix="fleetloop-bench-") as folder:
        devices = enrol(stack, 2 * DEVICES)
        signing, showing = devices[:DEVICES], devices[DEVICES:]
        contexts = [certified(stack, device, Path(folder)) for device in showing]
        by_signature, by_certificate = [], []
        for number in range(ROUNDS + 1):
            seqs = range(number * AHEAD, (number + 1) * AHEAD)
            lanes = [requests(device, seqs, signed=True) for device in signing]
            done, used_s = spent(stack, "api", stack.port, lanes, [None] * DEVICES)
            by_signature.append(done / used_s)
            lanes = [requests(device, seqs, signed=False) for device in showing]
            done, used_s = spent(stack, "devices", stack.device_port, lanes, contexts)
            by_certificate.append(done / used_s)
            say(f"identity: round {number}: {by_signature[-1]:.0f} by signature, {by_certificate[-1]:.0f} else")
        note = f"{DEVICES} devices each; ceiling: the same by signature over plain HTTP"
        unit = "check-ins/CPU-s of the API"
        yield rate("check_in_by_certificate", by_certificate[1:], by_signature[1:], unit, note)
        yield _handshakes(stack, showing[0], contexts[0], by_certificate[1:])


def _handshakes(stack: Stack, device: Device, context: ssl.SSLContext, standing: list[float]) -> Figure:
    lanes = requests(device, range(10**6, 10**6 + HANDSHAKES), signed=False)
    pid = stack.supervisor.pid("devices") or 0
    before = cpu_s(pid)
    for lane in lanes:
        if uvloop.run(drive(stack.device_port, [[lane]], [context], 5)) != 1:
            raise RuntimeError("a check-in on a new connection was not answered")
    used_ms = (cpu_s(pid) - before) / HANDSHAKES * 1e3
    floor_ms = 1e3 / (sum(standing) / len(standing))
    note = "TLS 1.3, P-256 certificates of both; floor: a check-in on a connection that stands"
    return cost("check_in_with_tls_handshake", used_ms, floor_ms, "CPU-ms of the API", note)
