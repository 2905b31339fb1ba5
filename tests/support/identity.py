"""Devices with certificates: signing requests, a TLS port of the application under test, and clients for it."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from agents.protocol import v1 as wire
from control_plane.kit import tls
from control_plane.kit.certificates import Authority, private_pem
from tests.support.device import CLASS, Device, enrol_body, new_key, new_token
from tests.support.server import Server


def csr(key: Any, *extensions: x509.ExtensionType, algorithm: Any = None) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for each in extensions:
        builder = builder.add_extension(each, critical=False)
    made = builder.sign(key, algorithm or hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def authority_of(server: Server) -> Authority:
    authority = server.context.device_ca
    assert authority is not None
    return authority


async def enrol_with_certificate(server: Server, serial: str = "sn-1", http: Any = None) -> tuple[Device, str]:
    """Enrol a device the way the agent does; return it and its certificate (PEM)."""
    await server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart"})
    key, http = new_key(), http or server.http
    body = enrol_body(await new_token(server), key, serial) | {"csr_pem": csr(key)}
    answer = await http.post("/device/v1/enrol", json=body)
    assert answer.status_code == 201, answer.text
    reply = wire.EnrolReply.model_validate_json(answer.content)
    director = Ed25519PublicKey.from_public_bytes(bytes.fromhex(reply.director_keys[0]))
    assert reply.certificate_pem is not None
    assert reply.ca_pem == authority_of(server).pem
    return Device(http, key, reply.device_id, director), reply.certificate_pem


@asynccontextmanager
async def listening(server: Server, listener: tls.Listener, sock: socket.socket | None = None) -> AsyncIterator[None]:
    """Run one more listener of the application under test."""
    serving = asyncio.create_task(listener.serve([sock] if sock else None))
    while not listener.started:  # noqa: ASYNC110 - uvicorn gives no event for it
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        listener.should_exit = True
        await serving


@asynccontextmanager
async def device_port(server: Server, authority: Authority | None = None) -> AsyncIterator[str]:
    """Serve the application by mutual TLS; yield the address."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    names = ["localhost", "127.0.0.1"]
    listener = tls.mutual_tls(server.app, "127.0.0.1", 0, authority or authority_of(server), names)
    async with listening(server, listener, sock):
        yield f"https://127.0.0.1:{sock.getsockname()[1]}"
    sock.close()


def client_context(
    server: Server, folder: Path, key: ec.EllipticCurvePrivateKey | None = None, certificate: str | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority_of(server).pem)
    if key is not None and certificate is not None:
        (folder / "client.key").write_bytes(private_pem(key))
        (folder / "client.crt").write_text(certificate)
        context.load_cert_chain(folder / "client.crt", folder / "client.key")
    return context


def tls_client(url: str, context: ssl.SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, verify=context, timeout=20, trust_env=False)
