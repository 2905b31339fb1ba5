"""Webhooks over the real database and a real receiver on loopback."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from control_plane.kit import outbox
from control_plane.kit.db import execute
from control_plane.kit.roles import Role
from control_plane.kit.settings import Settings
from control_plane.webhooks import service
from control_plane.webhooks.domain import MOST_FAILURES, Rules, Topic
from control_plane.webhooks.reconcile import Deliverer
from control_plane.webhooks.schemas import WebhookPut
from control_plane.webhooks.service import Sender, sending, sign, verify
from control_plane.worker import handlers_of
from tests.support.browsing import form_token, signed_in
from tests.support.server import Server, open_server

LOOPBACK = Rules(http_loopback=True)


@dataclass
class Receiver:
    """A server that remembers what it was sent and answers what it is told to."""

    port: int = 0
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    slow_s: float = 0.0
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    open: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            length = int(
                next(line.split(":")[1] for line in head.splitlines() if line.lower().startswith("content-length"))
            )
            self.bodies.append(await reader.readexactly(length))
            await asyncio.sleep(self.slow_s)
            writer.write(self.answer)
            await writer.drain()
        writer.close()

    def header(self, name: str, at: int = -1) -> str:
        lines = [line.partition(": ") for line in self.heads[at].splitlines()]
        return next(value for key, _, value in lines if key.lower() == name.lower())


@contextlib.asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made
        for writer in made.open:
            writer.transport.abort()
        await asyncio.sleep(0.1)  # connections whose handshake failed are closed by the loop


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with open_server(database_url, tmp_path, webhook_http=True) as opened:
        yield opened


async def _make(server: Server, url: str, topics: Sequence[Topic] = (Topic.RUN_FAILED,)) -> Any:
    async with server.context.database.transaction() as session:
        body = WebhookPut(name="pager", url=url, topics=list(topics))
        return await service.create(session, server.context.settings, "ada", body, "for the night shift")


async def _happens(server: Server, topic: Topic = Topic.RUN_FAILED) -> None:
    async with server.context.database.transaction() as session:
        await outbox.tell(session, topic, "run_1", "out of <memory>", "/runs/run_1")
    await outbox.dispatch(server.context.database, handlers_of(server.context))


async def _log(server: Server, webhook_id: str) -> list[Any]:
    async with server.context.database.transaction() as session:
        return await service.list_deliveries(session, webhook_id)


async def _due(server: Server) -> None:
    async with server.context.database.transaction() as session:
        await execute(session, "update webhook_delivery set next_at = now() - interval '1 second'")


async def test_an_event_goes_from_the_outbox_to_whoever_listens_signed(server: Server) -> None:
    async with receiving() as receiver:
        made = await _make(server, f"http://127.0.0.1:{receiver.port}/hook?a=1")
        await _happens(server)
        await _happens(server, Topic.GATE_FAILED)
        assert await Deliverer(server.context).tick() == 1
        assert await Deliverer(server.context).tick() == 0
    said = json.loads(receiver.bodies[0])
    assert (said["topic"], said["subject"], said["because"]) == ("run.failed", "run_1", "out of <memory>")
    assert said["url"] == "http://fleetloop.test/runs/run_1"
    assert receiver.heads[0].startswith("POST /hook?a=1 HTTP/1.1")
    assert receiver.header("Fleetloop-Delivery") == said["id"]
    now = datetime.now(UTC).timestamp()
    header = receiver.header("Fleetloop-Signature")
    assert verify(made.secret, header, receiver.bodies[0], now)
    assert not verify(made.secret, header, receiver.bodies[0] + b" ", now)
    assert not verify("whsec_other", header, receiver.bodies[0], now)
    assert not verify(made.secret, header, receiver.bodies[0], now + 3600), "a replay"
    assert not verify(made.secret, "nonsense", receiver.bodies[0], now)
    log = await _log(server, made.webhook.id)
    assert [(d.state, d.status, d.attempts) for d in log] == [("delivered", 200, 1)]


async def test_what_failed_is_tried_later_and_in_the_end_the_webhook_is_disabled(server: Server) -> None:
    async with receiving() as receiver:
        receiver.answer = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
        made = await _make(server, f"http://127.0.0.1:{receiver.port}/")
        await _happens(server)
        deliverer = Deliverer(server.context)
        assert await deliverer.tick() == 1
        waiting = (await _log(server, made.webhook.id))[0]
        assert (waiting.state, waiting.status, waiting.note) == ("waiting", 500, "answered 500")
        assert waiting.next_at > waiting.created_at + timedelta(seconds=4)
        assert await deliverer.tick() == 0, "not due yet"
        for _ in range(MOST_FAILURES):
            await _happens(server)
            await _due(server)
            await deliverer.tick()
    async with server.context.database.transaction() as session:
        disabled = await service.get(session, made.webhook.id)
    assert not disabled.active
    assert "in a row failed" in disabled.because
    log = await _log(server, made.webhook.id)
    assert {d.state for d in log} == {"failed"}
    assert max(d.attempts for d in log) <= 8
    reviews = await server.ok("GET", "/reviews")
    assert any("pager is disabled" in item["question"] for item in reviews["items"])
    await _happens(server)
    assert await deliverer.tick() == 0


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.8"], ["169.254.169.254"], ["::1"], ["fd00::1"], ["93.184.215.14", "10.0.0.8"], []],
)
async def test_a_name_that_stands_for_the_inside_is_never_connected_to(addresses: list[str]) -> None:
    async with receiving() as receiver:

        async def look_up(host: str, port: int) -> Sequence[str]:
            return addresses

        answer = await Sender(Rules(), look_up=look_up).send(f"https://hook.test:{receiver.port}/", "s", {}, b"{}")
    assert answer.status is None
    assert "not on the public internet" in answer.note or "has no address" in answer.note
    assert receiver.heads == []


async def test_a_name_that_changes_its_mind_is_asked_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: public when it is judged, inside when it is connected to."""
    asked: list[str] = []

    async def look_up(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["93.184.215.14"] if len(asked) == 1 else ["127.0.0.1"]

    gone: list[tuple[str, int]] = []
    whole = asyncio.get_running_loop().create_connection

    async def connect(factory: Any, host: Any = None, port: Any = None, **more: Any) -> Any:
        gone.append((str(host), port))
        raise OSError("not from a test")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", connect)
    answer = await Sender(Rules(), look_up=look_up).send("https://hook.test/", "s", {}, b"{}")
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", whole)
    assert answer.status is None
    assert asked == ["hook.test"]
    assert gone == [("93.184.215.14", 443)]


async def test_the_system_s_resolver_knows_odd_spellings_of_loopback() -> None:
    for host in ("127.1", "2130706433", "0x7f.1", "localhost"):
        with contextlib.suppress(OSError):
            answer = await Sender(Rules()).send(f"https://{host}/", "s", {}, b"{}")
            assert answer.status is None
            assert "not on the public internet" in answer.note, (host, answer)
    assert await sending.resolve("127.0.0.1", 80) == ["127.0.0.1"]


@pytest.mark.parametrize("location", ["http://169.254.169.254/latest", "/elsewhere"])
async def test_redirects_are_not_followed(location: str) -> None:
    async with receiving() as receiver:
        receiver.answer = f"HTTP/1.1 307 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        answer = await Sender(LOOPBACK).send(f"http://127.0.0.1:{receiver.port}/", "s", {}, b"{}")
    assert (answer.status, len(receiver.heads)) == (307, 1)
    assert "not followed" in answer.note


async def test_a_slow_or_endless_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ATTEMPT_S", 0.5)
    async with receiving() as receiver:
        receiver.slow_s = 3
        answer = await Sender(LOOPBACK).send(f"http://127.0.0.1:{receiver.port}/", "s", {}, b"{}")
        assert (answer.status, answer.note) == (None, "no answer within 0.5 s")
        receiver.slow_s, receiver.answer = 0, b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n" + b"x" * 100_000
        assert (await Sender(LOOPBACK).send(f"http://127.0.0.1:{receiver.port}/", "s", {}, b"{}")).status == 200
        receiver.answer = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000
        endless = await Sender(LOOPBACK).send(f"http://127.0.0.1:{receiver.port}/", "s", {}, b"{}")
        assert endless.status is None
        receiver.answer = b"no http at all\r\n\r\n"
        assert (await Sender(LOOPBACK).send(f"http://127.0.0.1:{receiver.port}/", "s", {}, b"{}")).status is None


def _certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return contexts of a server that is NAME, and of a client that believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    path = folder / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=made.public_bytes(Encoding.PEM).decode())


async def test_tls_is_checked_against_the_name_though_the_address_is_fixed(tmp_path: Path) -> None:
    tls, believes = _certificate(tmp_path, "hook.test")
    rules = Rules.read("127.0.0.0/8", http_loopback=False)

    async def look_up(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with receiving(tls) as receiver:
        sender = Sender(rules, look_up=look_up, tls=believes)
        good = await sender.send(f"https://hook.test:{receiver.port}/x", "s", {}, b"{}")
        other = await sender.send(f"https://other.test:{receiver.port}/x", "s", {}, b"{}")
        doubted = await Sender(rules, look_up=look_up).send(f"https://hook.test:{receiver.port}/", "s", {}, b"{}")
    assert good.status == 200
    assert receiver.header("Host", 0) == f"hook.test:{receiver.port}"
    assert other.status is None
    assert doubted.status is None
    assert len(receiver.heads) == 1


async def test_an_admin_keeps_webhooks_on_the_page(server: Server) -> None:
    admin = await signed_in(server, Role.ADMIN)
    token = await form_token(admin)
    async with receiving() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/services/T0/B0"
        form = {"form_token": token, "name": "pager", "url": url, "topic.run.failed": "yes", "reason": "nights"}
        made = await admin.post("/settings/webhooks", data=form)
        assert made.status_code == 200, made.text
        assert "whsec_" in made.text
        listed = (await admin.get("/settings/webhooks")).text
        page = listed.split('href="/settings/webhooks/hook_')[1].split('"')[0]
        page = f"/settings/webhooks/hook_{page}"
        assert "whsec_" not in (await admin.get(page)).text
        assert (await admin.post(f"{page}/test", data=form)).status_code == 303
        await Deliverer(server.context).tick()
        assert json.loads(receiver.bodies[0])["topic"] == "test"
    assert ">200<" in (await admin.get(page)).text
    again = await admin.post(page, data=form | {"action": "secret"})
    assert again.text.split("whsec_")[1][:40] != made.text.split("whsec_")[1][:40]
    off = await admin.post(page, data=form | {"action": "change", "active": "no", "topic.trust.alarm": "yes"})
    assert off.status_code == 303
    assert "disabled by test-admin: nights" in (await admin.get(page)).text
    assert (await admin.post(f"{page}/test", data=form)).status_code == 409
    for wrong in (
        {"url": "http://evil.test@127.0.0.1/"},
        {"url": "ftp://x"},
        {"topic.run.failed": ""},
        {"name": "<b>"},
    ):
        assert (await admin.post("/settings/webhooks", data=form | wrong)).status_code == 422, wrong
    assert (await admin.post("/settings/webhooks", data=form)).status_code == 409
    assert (await admin.post(page, data=form | {"action": "remove"})).status_code == 303
    assert (await admin.get(page)).status_code == 404
    entries = (await server.ok("GET", "/audit"))["items"]
    assert url not in json.dumps(entries), "a URL is often a password"
    actions = {item["action"] for item in entries}
    assert {"webhook.create", "webhook.change", "webhook.secret", "webhook.remove"} <= actions


async def test_many_events_for_one_that_never_answers_do_not_pile_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.webhooks.service.deliveries.MOST_WAITING", 3)
    made = await _make(server, "http://127.0.0.1:9/")
    for _ in range(5):
        await _happens(server)
    assert len(await _log(server, made.webhook.id)) == 3


def test_every_topic_is_told_by_some_slice_and_signatures_are_stable() -> None:
    root = Path(__file__).parents[2] / "control_plane"
    text = "".join(path.read_text() for path in root.rglob("*.py") if "webhooks" not in path.parts)
    assert [topic for topic in Topic if f'"{topic}"' not in text] == []
    assert sign("whsec_x", 1, b"{}").startswith("t=1,v1=")
    assert Settings().webhook_http is False
