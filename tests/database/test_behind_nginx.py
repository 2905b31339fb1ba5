"""Our nginx configuration, run by a real nginx before the real application (attack cases F 60, 61 and G 72, 73)."""

import asyncio
import os
import re
import shutil
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from control_plane.kit import clock
from control_plane.kit.tls import behind_proxy
from tests.support.device import Device, new_key
from tests.support.identity import (
    authority_of,
    client_context,
    csr,
    enrol_with_certificate,
    listening,
    tls_client,
)
from tests.support.server import Server, open_server

CONF = Path(__file__).parents[2] / "infra" / "nginx" / "devices.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
IMAGE = os.environ.get("FLEETLOOP_TEST_NGINX_IMAGE")
"""Whose nginx is to be tried in place of this machine's: tests/containers gives ours."""
pytestmark = pytest.mark.skipif(
    NGINX is None and IMAGE is None, reason="nginx is not installed: the configuration is not tried here"
)

MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/devices.conf;
}}
"""


@asynccontextmanager
async def nginx(server: Server, folder: Path, port: int) -> AsyncIterator[str]:
    """Run the configuration as it is, with its paths and port replaced and its header time-out shortened."""
    _configure(server, folder, port)
    process = await asyncio.create_subprocess_exec(*_program(folder), "-p", folder, "-c", folder / "nginx.conf")
    try:
        async with listening(server, behind_proxy(server.app, socket=folder / "devices.sock")):
            await _ready(port)
            yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


def _program(folder: Path) -> list[str]:
    if IMAGE is None:
        return [NGINX or ""]
    here = ["--network", "host", "--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{folder}:{folder}"]
    return ["docker", "run", "--rm", "--init", "--read-only", "--tmpfs", "/tmp", *here, IMAGE]  # noqa: S108


def _configure(server: Server, folder: Path, port: int) -> None:
    authority = authority_of(server)
    key, chain = authority.issue_server(["localhost", "127.0.0.1"], clock.now())
    (folder / "server.key").write_bytes(key)
    (folder / "server.crt").write_bytes(chain)
    (folder / "device-ca.crt").write_text(authority.pem)
    text = CONF.read_text().replace("/etc/fleetloop/", f"{folder}/").replace("listen 8443", f"listen 127.0.0.1:{port}")
    text = text.replace("/run/fleetloop-devices/devices.sock", f"{folder}/devices.sock")
    text, changed = re.subn(r"client_header_timeout \d+s", "client_header_timeout 1s", text)
    assert changed == 1
    (folder / "devices.conf").write_text(text)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))


async def _ready(port: int) -> None:
    for _ in range(100):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    pytest.fail("nginx does not listen")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that nginx's worker, who is somebody else, can look into."""
    found = tmp_path_factory.mktemp("nginx")
    for each in (found, *list(found.parents)[:3]):
        each.chmod(0o755)
    return found


async def sent(http: httpx.AsyncClient, device: Device, **headers: str) -> httpx.Response:
    return await http.post("/device/v1/check-in", json=device.check_in_message(), headers=headers)


async def test_devices_come_through_by_their_certificate(server: Server, folder: Path, unused_tcp_port: int) -> None:
    async with nginx(server, folder, unused_tcp_port) as url:
        async with tls_client(url, client_context(server, folder)) as http:
            device, certificate = await enrol_with_certificate(server, http=http)
            assert (await sent(http, device)).status_code == 401
            assert (await http.get("/api/v1/devices")).status_code == 404
            assert (await http.get("/")).status_code == 404
        context = client_context(server, folder, device.key, certificate)
        async with tls_client(url, context) as http:
            for _ in range(3):
                assert (await sent(http, device)).status_code == 200
            renewed = await http.post("/device/v1/renew", json={"csr_pem": csr(device.key)})
            assert renewed.status_code == 200
    [seen] = (await server.ok("GET", "/devices"))["items"]
    assert seen["last_seen_at"] is not None


async def test_one_device_has_one_rate_however_many_processes_are_behind(
    database_url: str, tmp_path: Path, folder: Path, unused_tcp_port: int
) -> None:
    """No process refuses here: who does is nginx, whose count all of them share."""
    async with (
        open_server(database_url, tmp_path, device_rate_per_s=1e6) as server,
        nginx(server, folder, unused_tcp_port) as url,
    ):
        hasty, calm = [await enrol_with_certificate(server, serial) for serial in ("hasty", "calm")]
        async with tls_client(url, client_context(server, folder, hasty[0].key, hasty[1])) as http:
            begun = time.monotonic()
            answers = [await http.post("/device/v1/telemetry", json={}) for _ in range(100)]
            most = 41 + 20 * (time.monotonic() - begun)
        through = sum(answer.status_code == 422 for answer in answers)
        assert {answer.status_code for answer in answers} == {422, 429}
        assert 41 <= through <= most + 1
        async with tls_client(url, client_context(server, folder, calm[0].key, calm[1])) as http:
            assert (await sent(http, calm[0])).status_code == 200


async def test_f61_nobody_speaks_for_another_through_nginx(server: Server, folder: Path, unused_tcp_port: int) -> None:
    victim, certificate = await enrol_with_certificate(server, "victim")
    thief, own = await enrol_with_certificate(server, "thief")
    escaped = certificate.replace("\n", "%0A").replace(" ", "%20")
    async with nginx(server, folder, unused_tcp_port) as url:
        contexts = (client_context(server, folder), client_context(server, folder, thief.key, own))
        for context, status in zip(contexts, (401, 200), strict=True):
            async with tls_client(url, context) as http:
                for name in ("Fleetloop-Client-Cert", "Fleetloop_Client_Cert", "fleetloop-client-cert"):
                    speaker = thief if status == 200 else victim
                    answer = await sent(http, speaker, **{name: escaped})
                    assert answer.status_code == status, name
                    said = await http.post("/device/v1/telemetry", json={"stream_id": "s"}, headers={name: escaped})
                    assert said.status_code == status
                as_victim = await sent(http, victim, **{"Fleetloop-Device": victim.id})
                assert as_victim.status_code == 401
    assert (await server.ok("GET", f"/devices/{victim.id}"))["last_seen_at"] is None


async def test_f60_certificates_that_are_not_good_end_at_nginx(
    server: Server, folder: Path, unused_tcp_port: int
) -> None:
    device, _ = await enrol_with_certificate(server)
    over = authority_of(server).issue_device(device.key.public_key(), device.id, clock.now() - timedelta(days=40))
    stranger = new_key()
    own_server = authority_of(server).issue_server(["x"], clock.now())
    (folder / "wrong.key").write_bytes(own_server[0])
    (folder / "wrong.crt").write_bytes(own_server[1])
    wrong_usage = client_context(server, folder)
    wrong_usage.load_cert_chain(folder / "wrong.crt", folder / "wrong.key")
    pem = over.public_bytes(Encoding.PEM).decode()
    async with nginx(server, folder, unused_tcp_port) as url:
        for context in (client_context(server, folder, device.key, pem), wrong_usage):
            async with tls_client(url, context) as http:
                answer = await sent(http, device)
                assert answer.status_code in (400, 401), answer.text
        with pytest.raises(ssl.SSLError):
            client_context(server, folder, stranger, pem)  # a certificate without its key is of no use
        async with tls_client(url, client_context(server, folder)) as http:
            device.http = http
            renewed = await device.post("renew", {"csr_pem": csr(device.key)})
            assert renewed.status_code == 200, renewed.text


async def test_g72_g73_slow_headers_and_large_bodies_end_at_nginx(
    server: Server, folder: Path, unused_tcp_port: int
) -> None:
    async with nginx(server, folder, unused_tcp_port) as url:
        context = client_context(server, folder)
        reader, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port, ssl=context)
        writer.write(b"POST /device/v1/check-in HTTP/1.1\r\nHost: x\r\n")
        begun = asyncio.get_running_loop().time()
        assert b"200" not in await asyncio.wait_for(reader.read(), 10)
        assert asyncio.get_running_loop().time() - begun < 5
        writer.close()
        async with tls_client(url, context) as http:
            answer = await http.post("/device/v1/telemetry", content=b" " * (17 << 20))
            assert answer.status_code == 413
