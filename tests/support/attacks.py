"""A server in an attacker's hands, and a device under attack: real keys, real TUF, real slots, real check-ins."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata
from tuf.api.serialization.json import JSONSerializer

from agents.link import BlobStore, Downloader, DownloadLimits, Identity, open_client
from agents.link.identity import root_path
from agents.main.check_in import CheckIns
from agents.main.trusting import TrustKeeper
from agents.protocol.v1 import DeploymentPhase as P
from agents.sdk import StateDir
from agents.sdk.signals import Signals
from agents.update import (
    Anchor,
    DeviceRepository,
    DirectorCheck,
    Journal,
    SignedByAll,
    Slots,
    Trust,
    TufProcess,
    UpdateEffects,
    UpdateLoop,
)
from tests.agent.bundles import Built
from tests.agent.server import FleetServer, Request, Send
from tests.support.updates import InProcess, Says

Lie = Callable[[Request, Send], Awaitable[None]]
SHORT = DownloadLimits(deadline_s=5.0, rate_window_s=0.5, disk_reserve_bytes=0, gap_s=1.0)


@dataclass
class HostileServer(FleetServer):
    """`lies` maps routes (`tuf/timestamp.json`) to what is answered instead."""

    lies: dict[str, Lie] = field(default_factory=dict)

    async def _answer(self, request: Request, send: Send) -> None:
        lie = self.lies.get(request.path.split("?")[0].removeprefix("/device/v1/"))
        if lie is None:
            await super()._answer(request, send)
        else:
            # The one lied to may hang up in the middle.
            with contextlib.suppress(Exception):
                await lie(request, send)

    def now(self, role: str) -> str:
        """Return the file name of a role's newest metadata."""
        return "timestamp.json" if role == "timestamp" else f"{self.tuf.versions[role]}.{role}.json"

    @contextlib.contextmanager
    def lying(self, lies: Mapping[str, Lie | bytes]) -> Iterator[None]:
        """Answer otherwise for a while; bytes stand for a plain 200."""
        self.lies = {name: answers(lie) if isinstance(lie, bytes) else lie for name, lie in lies.items()}
        try:
            yield
        finally:
            self.lies = {}


def answers(body: bytes, status: int = 200, **headers: str) -> Lie:
    async def lie(_request: Request, send: Send) -> None:
        said = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
        await begin(send, status, said)
        await send({"type": "http.response.body", "body": body})

    return lie


def endless(chunk: bytes, pause_s: float = 0.0, chunks: int = 100_000, **headers: str) -> Lie:
    """Send and send; it stops when nobody listens."""

    async def lie(_request: Request, send: Send) -> None:
        await begin(send, 200, {name.replace("_", "-"): value for name, value in headers.items()})
        for _ in range(chunks):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(pause_s)

    return lie


async def begin(send: Send, status: int, headers: Mapping[str, str]) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


def resigned(data: bytes, *signers: CryptoSigner, **changes: Any) -> bytes:
    """Return metadata with changed fields, signed by these alone."""
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    for name, value in changes.items():
        setattr(metadata.signed, name, value)
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer(compact=True))


class Device:
    """One device on a disk; `restart` is a new agent on the same disk. `said` collects every reason it gave."""

    def __init__(self, http: httpx.AsyncClient, state: StateDir, server: FleetServer) -> None:
        self._http, self.state, self.server = http, state, server
        self.said: set[str] = set()
        self.words: list[str] = []
        self.ahead_s = 0.0
        self.process: TufProcess | InProcess = InProcess()
        self._begin()

    def _begin(self) -> None:
        identity = Identity.load(self.state)
        assert identity is not None
        self.client = client = open_client(self._http, self.state, identity)
        blobs = BlobStore(self.state.blobs)
        blobs.prepare()
        self.slots, self.anchor = Slots(self.state, blobs), Anchor(root_path(self.state).parent)
        self.downloader = Downloader(client, blobs, SHORT)
        repository = DeviceRepository(self.process, self.anchor, f"{client.route('tuf')}")  # type: ignore[arg-type]  # the same, in this process
        self.trust = Trust(self.anchor, repository, self.downloader)
        self.signals = Signals(self.state.signals)
        effects = UpdateEffects(
            slots=self.slots, downloader=self.downloader, signals=self.signals, qualifier=Says(),
            device_class=identity.device_class, trust=SignedByAll(self.trust, identity.device_class),
        )  # fmt: skip
        journal = Journal(self.state.private / "journal.db")
        self.loop = UpdateLoop(journal, effects, self.slots.running(), None, lambda: time.monotonic() + self.ahead_s)
        director = DirectorCheck(identity.device_id, self.anchor.director_keys, self.anchor.heard_time)
        self.check_ins = CheckIns(
            client, director, self.loop, dict, dict, self.anchor, boot_id=f"b-{time.monotonic_ns()}"
        )  # fmt: skip
        self.keeper = TrustKeeper(self.trust, self.loop, lambda: None)

    async def restart(self) -> None:
        await self.close()
        self._begin()

    async def close(self) -> None:
        await self.loop.close()
        await self.client.aclose()
        await self.process.close()

    @property
    def runs(self) -> int | None:
        """Return the counter of what the link leads to, every file of it read again."""
        slot = self.slots.running()
        if slot is None:
            return None
        assert self.slots.intact(slot)
        return slot.counter

    async def live(self, rounds: int = 6) -> None:
        """Check in, refresh, update: a few times over, with every wait cut short."""
        for _ in range(rounds):
            await self.check_ins.once()
            # Who loses its cache loses no orders by it; a device refreshes hourly and whenever it is behind.
            if self.check_ins.trust_outdated.is_set():
                self.check_ins.trust_outdated.clear()
                await self._refreshed()
            await self._update()

    async def _refreshed(self) -> None:
        try:
            await self.keeper.once()
        except OSError:
            self.said.add("disk_error")  # the agent goes on too, after a while

    async def _update(self) -> None:
        self.ahead_s += 61.0
        await self.loop.advance()
        active = self.loop.state.active
        if self.loop.state.phase is P.TRIAL and active is not None:
            self.signals.put_health(active.content_digest, ok=True, reason="")
        if self.loop._task is not None:
            await self.loop._task
            await self.loop.advance()
        self._note()

    def _note(self) -> None:
        told = (self.check_ins.last_error, self.keeper.last_error, self.loop.state.reason)
        self.words.extend(each for each in (*told, self.loop.state.detail) if each)
        self.said.update(each for each in (self.loop.state.reason,) if each)
        for each in told[:2]:
            self.said.update(word.strip(":,") for word in (each or "").split()[:4])

    async def installs(self, built: Built, rounds: int = 16) -> None:
        """Order a release and see it committed."""
        self.server.order = built.order
        for _ in range(rounds):
            if self.runs == built.order.counter and self.loop.state.phase is P.COMMITTED:
                return
            await self.live(1)
        raise AssertionError(f"{self.loop.state.phase} {self.loop.state.reason} {self.words[-4:]}")

    async def withstands(self, *reasons: str, rounds: int = 4) -> None:
        """Live under attack; what runs stays, and one of the reasons is given (any, if none is named)."""
        before, self.said, self.words = self.runs, set(), []
        for _ in range(rounds):
            await self.live(1)
            assert self.runs == before, "the attacker got in"
        assert self.said & (set(reasons) or self.said), (reasons, self.said, self.words[-4:])
