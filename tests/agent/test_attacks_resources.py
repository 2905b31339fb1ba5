"""Metadata made to eat memory, time or disk, cases A11 to A20: who reads it stays small and is done soon."""

import asyncio
import errno
import gzip
import os
import resource
import shutil
import signal
import socket
import ssl
import threading
import time
import warnings
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import zstandard
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Metadata, MetaFile, Snapshot, Targets

from agents.link import Identity, LinkError
from agents.link.metadata import Tls
from agents.protocol.v1.trust import POLICY_PATH
from agents.sdk import StateDir
from agents.update import TufProcess
from agents.update import anchor as anchors
from agents.update.metadata import Question, ask
from tests.agent.bundles import files, release
from tests.agent.server import Door, served
from tests.support.attacks import Device, HostileServer, Lie, answers, endless
from tests.support.power import Points, Strike
from tests.support.tuf_repository import COMPACT
from tests.support.updates import last_act

MOST_MORE_BYTES = 64 << 20


@pytest.fixture
def server(door: tuple[Door, str]) -> HostileServer:
    door[0].behind = HostileServer(url=door[1], life_s=5 * 86400.0)
    return door[0].behind


@pytest.fixture
async def device(
    server: HostileServer, identity: Identity, http: httpx.AsyncClient, state: StateDir
) -> AsyncIterator[Device]:
    device = Device(http, state, server)
    device.process = TufProcess(timeout_s=20.0)
    await device.restart()
    await device.installs(release(server, 1, files(1.0)))
    server.order = release(server, 2, files(2.0)).order
    yield device
    await device.close()


def peak_bytes(device: Device) -> int:
    """Return the most memory that the process which reads metadata ever had resident."""
    assert isinstance(device.process, TufProcess)
    process = device.process._child._process
    assert process is not None
    assert process.returncode is None
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


async def warm_bytes(device: Device) -> int:
    await device.keeper.once()
    return peak_bytes(device)


async def stays_small(device: Device, server: HostileServer, lies: dict[str, Lie | bytes], *reasons: str) -> None:
    idle = await warm_bytes(device)
    server.publish()
    with server.lying({name.format(**server.tuf.versions): lie for name, lie in lies.items()}):
        begun = time.monotonic()
        await device.withstands(*reasons, rounds=2)
        assert time.monotonic() - begun < 60
    more = peak_bytes(device) - idle
    assert more <= MOST_MORE_BYTES, f"{more >> 20} MiB more"
    await recovers(device)


async def recovers(device: Device) -> None:
    for _ in range(16):
        if device.runs == 2:
            return
        await device.live(1)
    raise AssertionError(f"{device.loop.state.phase} {device.words[-4:]}")


async def test_a11_a_delegation_cycle_and_ten_thousand_delegations_end(device: Device, server: HostileServer) -> None:
    """Signed by the stolen targets keys, which is the worst that can be: only then is it followed at all."""
    signer = server.tuf.signers["targets"][0]
    for count, reason in ((200, "no_trust_policy"), (10_000, "metadata_too_large")):
        good = dict(server.tuf.files)
        delegating(server, signer, count)
        await device.withstands(reason, rounds=1)
        asked = [request.path for request in server.requests if "/nest" in request.path]
        assert len(asked) <= 2 * 32
        server.tuf.files = good
    after_the_theft(server)
    await recovers(device)


def after_the_theft(server: HostileServer) -> None:
    """Name new keys: a client takes no snapshot that lacks a role which an earlier one by the same key had."""
    for role in ("timestamp", "snapshot"):
        server.tuf.signers[role] = [CryptoSigner.generate_ed25519()]
    server.tuf.publish_root()
    server.publish()


def delegating(server: HostileServer, signer: CryptoSigner, count: int) -> None:
    """Publish targets without a policy, but with roles that each point to all the others."""
    tuf = server.tuf
    held = dict(tuf.targets["targets"])
    tuf.targets["targets"] = {}
    tuf.publish()
    metadata: Metadata[Targets] = Metadata.from_bytes(tuf.files[server.now("targets")])
    names = [f"nest{number}" for number in range(count)]
    assert metadata.signed.delegations is not None
    assert metadata.signed.delegations.roles is not None
    delegations = metadata.signed.delegations
    delegations.keys = {signer.public_key.keyid: signer.public_key}
    ids = [signer.public_key.keyid]
    delegations.roles = {name: DelegatedRole(name, ids, 1, terminating=False, paths=["*/*"]) for name in names}
    metadata.sign(signer)
    tuf.files[server.now("targets")] = metadata.to_bytes(COMPACT)
    for name in names[:64]:
        nested = Metadata(Targets(1, expires=metadata.signed.expires, delegations=delegations))
        nested.sign(signer)
        tuf.files[f"1.{name}.json"] = nested.to_bytes(COMPACT)
    snapshot: Metadata[Snapshot] = Metadata.from_bytes(tuf.files[server.now("snapshot")])
    snapshot.signed.meta |= {f"{name}.json": MetaFile(1) for name in names[:64]}
    snapshot.sign(tuf.signers["snapshot"][0])
    tuf.files[server.now("snapshot")] = snapshot.to_bytes(COMPACT)
    tuf.targets["targets"] = held


@pytest.mark.parametrize("name", ["tuf/timestamp.json", "tuf/{snapshot}.snapshot.json", "tuf/{targets}.targets.json",
                                  "tuf/2.root.json"])  # fmt: skip
async def test_a12_a_body_without_end(device: Device, server: HostileServer, name: str) -> None:
    await stays_small(device, server, {name: endless(b" " * 65536)}, "metadata_too_large")


async def test_a12_a_length_that_lies_and_a_root_of_600_kb(device: Device, server: HostileServer) -> None:
    short = endless(b"{", chunks=1, content_length="100")
    big = b'{"signed":"' + b"x" * 600_000 + b'"}'
    await stays_small(device, server, {"tuf/timestamp.json": short}, "server_unreachable", "metadata_invalid")
    server.order = release(server, 3, files(3.0)).order
    with server.lying({"tuf/2.root.json": big}):
        await device.withstands("metadata_too_large", rounds=2)


def bombs() -> dict[str, tuple[bytes, str]]:
    zeros = b"\0" * (64 << 20)
    packed = gzip.compress(zeros)
    return {
        "gzip": (packed, "gzip"),
        "deflate": (zlib.compress(zeros), "deflate"),
        "zstd": (zstandard.ZstdCompressor(level=19).compress(zeros), "zstd"),
        "nested": (gzip.compress(packed), "gzip, gzip"),
        "unknown": (b"x", "br"),
    }


@pytest.mark.parametrize("kind", ["gzip", "deflate", "zstd", "nested", "unknown"])
async def test_a13_what_is_packed_is_not_unpacked(device: Device, server: HostileServer, kind: str) -> None:
    body, encoding = bombs()[kind]
    await stays_small(
        device, server, {"tuf/timestamp.json": answers(body, content_encoding=encoding)}, "server_unreachable"
    )
    assert any("was not asked for" in each for each in device.words)


async def test_a13_a_bomb_in_a_redirect(device: Device, server: HostileServer) -> None:
    bomb = answers(bombs()["gzip"][0], 302, content_encoding="gzip", location="/device/v1/tuf/1.root.json")
    await stays_small(device, server, {"tuf/timestamp.json": bomb}, "server_unreachable")


async def test_a14_a_body_that_drips_is_left(device: Device, server: HostileServer) -> None:
    begun = time.monotonic()
    with server.lying({"tuf/timestamp.json": endless(b" ", pause_s=0.2, content_length="1000")}):
        await device.withstands("too_slow", "server_unreachable", rounds=1)
    assert time.monotonic() - begun < 15
    await recovers(device)


@contextmanager
def dripping_headers() -> Iterator[str]:
    """Accept and send one byte of a header now and then, for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def talk() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with closing(connection):
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                    while not over.wait(0.1):
                        connection.sendall(b"x")
                except OSError:
                    continue

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        over.set()
        listener.close()
        thread.join(5)


async def test_a14_headers_that_drip_end_with_the_process(device: Device) -> None:
    """No limit of the HTTP library sees them; the process that waits is ended from outside."""
    process = TufProcess(timeout_s=3.0)
    begun = time.monotonic()
    with dripping_headers() as url, pytest.raises(LinkError) as left:
        await process.ask(device.anchor, url, None, ())
    assert left.value.reason == "too_slow"
    assert time.monotonic() - begun < 10
    await process.close()


PLACES = (
    "file:///etc/hostname",
    "http://169.254.169.254/latest/meta-data",
    "http://localhost:1/",
    "//other/x",
    "ftp://x/",
)


@pytest.mark.parametrize("place", PLACES)
async def test_a15_nobody_is_followed(device: Device, server: HostileServer, place: str) -> None:
    away = answers(b"", 302, location=place)
    assert server.order is not None
    with server.lying({f"blobs/sha256/{server.order.release_digest}": away}):
        await device.withstands("bad_answer", "server_unreachable", rounds=2)
    with server.lying({"tuf/timestamp.json": away, "tuf/2.root.json": away}):
        await device.withstands("server_unreachable", rounds=2)
    assert any("status 302" in each for each in device.words)
    await recovers(device)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_a15_an_old_tls_is_not_spoken(tmp_path: Path, version: ssl.TLSVersion) -> None:
    certificate(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    serving.set_ciphers("ALL:@SECLEVEL=0")
    lenient = ssl.create_default_context(cafile=tmp_path / "server.crt")
    lenient.set_ciphers("ALL:@SECLEVEL=0")
    for context in (serving, lenient):
        with warnings.catch_warnings(action="ignore"):  # python's own words about these versions
            context.minimum_version = context.maximum_version = version
    assert shakes_hands(serving, lenient), "the server does speak it"
    strict = Tls(str(tmp_path / "server.crt")).context()
    assert not shakes_hands(serving, strict)
    assert strict.verify_mode is ssl.CERT_REQUIRED
    assert strict.check_hostname


def certificate(folder: Path) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )  # fmt: skip
    (folder / "server.crt").write_bytes(built.sign(key, SHA256()).public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.key").write_bytes(pem)


def shakes_hands(serving: ssl.SSLContext, asking: ssl.SSLContext) -> bool:
    """Shake hands in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    client = asking.wrap_bio(to_client, to_server, server_hostname="localhost")
    waiting = {client, server}
    for _ in range(10):
        for side in tuple(waiting):
            try:
                side.do_handshake()
                waiting.discard(side)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return not waiting


def spellings(good: bytes) -> dict[str, bytes]:
    """Return metadata in spellings that must not be read, most of them with a good signature inside."""
    return {
        "deep": b'{"signed":' + b"[" * 8000 + b"]" * 8000 + b"}",
        "long number": good.replace(b'"version":', b'"v":' + b"9" * 15_000 + b',"version":', 1),
        "nan": good.replace(b'"version":', b'"v":NaN,"version":', 1),
        "infinite": good.replace(b'"version":', b'"v":1e999,"version":', 1),
        "not utf-8": good.replace(b"timestamp", b"timestamp\xff", 1),
        "mark": b"\xef\xbb\xbf" + good,
        "twice": good[:1] + b'"signed":{"version":9},' + good[1:],
        "a list": b"[" + good + b"]",
        "empty": b"",
    }


@pytest.mark.parametrize("kind", list(spellings(b"")))
async def test_a16_json_that_reads_in_two_ways_or_none(device: Device, server: HostileServer, kind: str) -> None:
    bad = spellings(server.tuf.files["timestamp.json"])[kind]
    with server.lying({"tuf/timestamp.json": bad}):
        await device.withstands("metadata_invalid", rounds=2)
    await recovers(device)


@pytest.mark.parametrize("unit", [b"{},", b"[],", b'{"":0},', b"0.1,", b'"ab",'])
async def test_a16_json_that_grows_when_it_is_read(device: Device, server: HostileServer, unit: bytes) -> None:
    """A megabyte that nobody signed is read before that is known: what it grows to is bounded."""
    for name, most in (("{snapshot}.snapshot", 512 << 10), ("{targets}.targets", 1 << 20)):
        fat = b"[" + unit * ((most - 8) // len(unit)) + b"0]"
        device.loop._found.backoff.succeeded()
        await stays_small_still(device, server, {f"tuf/{name}.json": fat}, "metadata_invalid")
    await recovers(device)


async def stays_small_still(device: Device, server: HostileServer, lies: dict[str, Lie | bytes], *reasons: str) -> None:
    idle = await warm_bytes(device)
    server.publish()
    with server.lying({name.format(**server.tuf.versions): lie for name, lie in lies.items()}):
        await device.withstands(*reasons, rounds=1)
    more = peak_bytes(device) - idle
    assert more <= MOST_MORE_BYTES, f"{more >> 20} MiB more"


NAMES = (
    "../../../evil",
    "/etc/evil",
    "%2e%2e%2fevil",
    "a\\..\\evil",
    "x" * 4096,
    "\u202etxt.evil",
    ".lock",
    "timestamp",
)


async def test_a17_names_of_roles_stay_inside_the_cache(device: Device, server: HostileServer) -> None:
    """Signed by the stolen targets keys: nobody else can name a role."""
    outside = sorted(str(path) for path in device.state.root.rglob("*") if device.anchor.cache not in path.parents)
    for name in NAMES:
        named(server, name)
        await device.keeper.once()
    found = sorted(str(path) for path in device.state.root.rglob("*") if device.anchor.cache not in path.parents)
    assert found == outside
    assert not list(device.state.root.parent.rglob("evil*"))
    assert device.anchor.root.read_bytes() == server.tuf.root
    assert device.runs == 1
    after_the_theft(server)
    await recovers(device)


def named(server: HostileServer, name: str) -> None:
    """Publish targets without a policy that ask a role of this name for it."""
    tuf, held = server.tuf, dict(server.tuf.targets["targets"])
    signer = tuf.signers["targets"][0]
    tuf.targets["targets"] = {}
    tuf.publish()
    metadata: Metadata[Targets] = Metadata.from_bytes(tuf.files[server.now("targets")])
    delegations = metadata.signed.delegations
    assert delegations is not None
    delegations.keys = {signer.public_key.keyid: signer.public_key}
    delegations.roles = {name: DelegatedRole(name, [signer.public_key.keyid], 1, terminating=True, paths=["*/*"])}
    metadata.sign(signer)
    tuf.files[server.now("targets")] = metadata.to_bytes(COMPACT)
    snapshot: Metadata[Snapshot] = Metadata.from_bytes(tuf.files[server.now("snapshot")])
    snapshot.signed.meta[f"{name}.json"] = MetaFile(1)
    snapshot.sign(tuf.signers["snapshot"][0])
    tuf.files[server.now("snapshot")] = snapshot.to_bytes(COMPACT)
    role: Metadata[Targets] = Metadata(Targets(1, expires=metadata.signed.expires))
    role.sign(signer)
    tuf.files[f"1.{quote(name, '')}.json"] = role.to_bytes(COMPACT)
    tuf.targets["targets"] = held


def test_a18_a_power_cut_at_every_write_of_metadata(tmp_path: Path) -> None:
    """Each cut is SIGKILL in a process of its own; the next start reads what is there and goes on."""
    server = HostileServer()
    release(server, 1, files())
    with served(server) as url:
        root = tmp_path / "root.json"
        root.write_bytes(server.tuf.root)
        at, status = 0, -1
        while status != 0:
            cache = tmp_path / f"cut-{at}"
            cache.mkdir()
            question = Question(str(cache), str(root), f"{url}/device/v1/tuf", (POLICY_PATH,))
            status = refreshed_until(question, at)
            assert status in {0, -signal.SIGKILL}
            assert ask(question).targets[POLICY_PATH] is not None
            at += 1
    assert at > 15, "there were that many points"


def refreshed_until(question: Question, at: int) -> int:
    """Fork a refresh that is killed at its write number `at`; return its exit status."""
    pid = os.fork()
    if pid == 0:
        with last_act():
            Points(question.cache, Strike("KILL", at)).arm()
            ask(question)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def test_a19_two_refreshes_of_one_cache_take_turns(device: Device) -> None:
    processes = [TufProcess(20.0) for _ in range(2)]
    url = f"{device.client.route('tuf')}"
    asked = [process.ask(device.anchor, url, None, (POLICY_PATH,)) for process in processes * 5]
    found = await asyncio.gather(*asked)
    assert len({(each.revision, each.targets[POLICY_PATH]) for each in found}) == 1
    for process in processes:
        await process.close()


def test_a19_a_lock_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    kept = tmp_path / "trust.json"
    kept.write_text("floors")
    (tmp_path / "tuf").mkdir()
    (tmp_path / "tuf" / ".lock").symlink_to(kept)
    (tmp_path / "root.json").write_bytes(b"{}")
    with pytest.raises(OSError, match="symbolic links"):
        ask(Question(str(tmp_path / "tuf"), str(tmp_path / "root.json"), "http://localhost:1/"))
    assert kept.read_text() == "floors"


async def test_a20_a_disk_that_takes_nothing_stops_the_install_only(device: Device) -> None:
    await device.keeper.once()
    assert isinstance(device.process, TufProcess)
    process = device.process._child._process
    assert process is not None
    # As if the disk were full: every write of the process fails from here on.
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    device.server.publish()
    await device.withstands("disk_error", rounds=2)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)
    await recovers(device)


async def test_a20_a_cache_that_cannot_be_written_stops_the_install_only(device: Device) -> None:
    shutil.rmtree(device.anchor.cache)
    device.anchor.cache.write_text("a file where the folder should be")
    await device.withstands("disk_error", rounds=2)
    device.anchor.cache.unlink()
    await recovers(device)


async def test_a20_floors_that_cannot_be_kept_let_nothing_in(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_values: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(anchors, "write_whole", full)
        await device.withstands("disk_error", rounds=2)
    await recovers(device)
