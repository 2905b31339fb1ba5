"""Updates on a device's disk in processes that may die: real slots, journal, downloads and TUF, forked when warm.

The parent keeps one listening socket and forks servers and agents; it has no thread, so that every fork is whole.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import ssl
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import SecretStr
from tuf.api.exceptions import DownloadError, RepositoryError

from agents.link import (
    BlobStore,
    Downloader,
    DownloadLimits,
    Enrolment,
    Identity,
    LinkError,
    enrol,
    new_http,
    open_client,
)
from agents.link.identity import load_key, root_path
from agents.protocol.v1 import DeploymentPhase as P
from agents.sdk import StateDir
from agents.sdk.signals import Signals
from agents.update import (
    Anchor,
    DeviceRepository,
    Journal,
    RefusedError,
    SignedByAll,
    Slots,
    Trust,
    UpdateEffects,
    UpdateLoop,
)
from agents.update.machine import State, Target
from agents.update.metadata import Question, ask, reason_of
from agents.update.refresh import Listed, Metadata
from agents.update.trust import Order
from tests.agent.bundles import Built
from tests.agent.server import FleetServer
from tests.support.power import Points, Strike

_STEPS: Final = 120


class Broken(AssertionError):  # noqa: N818 - it is what a device is, not what a program did
    """A disk on which no device may ever be found; `kind` is what is counted."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(f"{kind}: {words}")
        self.kind = kind


@dataclass
class Fleet:
    """A server's state in this process; `serving` forks one that answers with it as it is then."""

    server: FleetServer = field(default_factory=FleetServer)
    contents: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.server.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def knows(self, built: Built, files: dict[str, bytes]) -> Built:
        self.contents[built.content_digest] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        return built

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        pid = os.fork()
        if pid == 0:
            with last_act():
                config = uvicorn.Config(self.server, log_level="critical", lifespan="off", access_log=False)
                asyncio.run(uvicorn.Server(config).serve([self._listener]))
        try:
            yield
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def enrolled(self, root: Path, serial: str = "7") -> StateDir:
        """Enrol a device and let this process's server know it, for all servers forked from now on."""
        state = StateDir(root)
        state.root.mkdir(parents=True)
        self.server.publish()
        wish = Enrolment(
            server=self.server.url, token=SecretStr("t" * 20), serial=serial, device_class="test", site="hall"
        )

        async def run() -> None:
            async with new_http() as http:
                await enrol(http, state, wish)

        with self.serving():
            asyncio.run(run())
        key = load_pem_public_key(load_key(state).public_pem.encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.server.devices[f"d-{serial}"] = key
        return state

    def runs(self, state: StateDir) -> str | None:
        """Return the content that runs, after reading all of it with none of the agent's code; None if no link.

        Raises:
            Broken: the link leads nowhere, or to files that are not exactly one known bundle.
        """
        if not state.active.is_symlink():
            return None
        folder = state.root / state.active.readlink()
        if not folder.is_dir():
            raise Broken("unbootable", f"active leads to {folder.name}, which is not there")
        digest = folder.name.partition(".")[2]
        found = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.iterdir()
            if not path.name.startswith(".")
        }
        if digest not in self.contents:
            raise Broken("unverified", f"{digest[:12]} was never released")
        if found != self.contents[digest]:
            others = {each for files in self.contents.values() for each in files.values()}
            kind = "mixed" if set(found.values()) <= others else "unverified"
            raise Broken(kind, f"{folder.name} holds {sorted(found)}")
        return digest


class InProcess:
    """python-tuf in this process, where faults and kills can reach its writes too."""

    async def ask(self, anchor: Anchor, url: str, tls: Any, paths: tuple[str, ...]) -> Metadata:
        try:
            answer = await asyncio.to_thread(ask, Question(str(anchor.cache), str(anchor.root), url, paths, tls))
        except (RepositoryError, DownloadError, OSError, ValueError) as error:
            raise LinkError(reason_of(error), str(error)) from error
        listed = {path: Listed(found.sha256, found.length_bytes) if found else None
                  for path, found in answer.targets.items()}  # fmt: skip
        return Metadata(answer.revision, answer.signers, answer.root_version, listed)

    async def close(self) -> None:
        """There is no process to end."""


@dataclass(frozen=True)
class Says:
    """Qualifies whatever is whole: what a model can do is not asked here."""

    ok: bool = True
    reason: str = ""
    numbers: dict[str, float] = field(default_factory=dict)

    async def qualify(self, bundle: Path, *_around: object) -> "Says":
        assert (bundle / "model.onnx").exists()
        return self

    async def close(self) -> None:
        """There is no process to end."""


@dataclass(frozen=True)
class Wish:
    """What the server orders, what the application says of it, and how it ends."""

    target: Target | None
    done: Callable[[State], bool]
    healthy: dict[str, bool] = field(default_factory=dict)
    watch: Callable[[], None] = lambda: None


def target_of(built: Built) -> Target:
    order = built.order
    return Target(order.release_digest, order.size_bytes, order.counter, order.rollout_id)


def run_agent(state: StateDir, wish: Wish, strike: Strike) -> int:
    """Fork an agent that works until the wish is fulfilled; return its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        with last_act():
            logging.disable()
            points = Points(str(state.root), strike)
            points.arm()
            asyncio.run(_until_done(state, wish))
            if strike.log is not None:
                strike.log.write_text(json.dumps(points.trail))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def last_act() -> Iterator[None]:
    """Whatever a forked process does, it never comes back into the code of its parent."""
    code = 1
    try:
        yield
        code = 0
    except BaseException:  # noqa: BLE001 - all of them: the process ends here
        traceback.print_exc()
    finally:
        os._exit(code)


async def _until_done(state: StateDir, wish: Wish) -> None:
    """Be an agent that is started again whenever the disk does not even let it start."""
    for _ in range(_STEPS):
        try:
            if await _worked(state, wish):
                return
        except OSError:
            wish.watch()
    raise AssertionError("the agent never got to its end")


async def _worked(state: StateDir, wish: Wish) -> bool:
    identity = Identity.load(state)
    assert identity is not None
    time_s, signals = [0.0], Signals(state.signals)
    async with new_http(tls=NO_TLS) as http:
        client = open_client(http, state, identity)
        blobs = BlobStore(state.blobs)
        blobs.prepare()
        slots, anchor = Slots(state, blobs), Anchor(root_path(state).parent)
        downloader = Downloader(client, blobs, DownloadLimits(disk_reserve_bytes=0))
        trust = Trust(anchor, DeviceRepository(InProcess(), anchor, f"{client.route('tuf')}"), downloader)  # type: ignore[arg-type]  # the same, in this process
        effects = UpdateEffects(
            slots=slots, downloader=downloader, signals=signals, qualifier=Says(), device_class="test",
            trust=SignedByAll(trust, "test"),
        )  # fmt: skip
        journal = Journal(state.private / "journal.db")
        loop = UpdateLoop(journal, effects, slots.running(), None, lambda: time_s[0])
        trust.changed = lambda: loop.revoke(anchor.revocations.digests)
        loop.revoke(anchor.revocations.digests)
        try:
            return await _driven(loop, trust, signals, wish, time_s)
        finally:
            await loop.close()


async def _driven(loop: UpdateLoop, trust: Trust, signals: Signals, wish: Wish, time_s: list[float]) -> bool:
    await loop.check_slots()
    settled, refreshed = 0, False
    for _ in range(_STEPS):
        loop.ordered(Order(wish.target, 3600.0), time_s[0])
        await loop.advance()
        wish.watch()
        if not refreshed:
            with contextlib.suppress(LinkError, RefusedError, OSError):
                await trust.look_up()
                refreshed = True
        active = loop.state.active
        if loop.state.phase is P.TRIAL and active is not None:
            with contextlib.suppress(OSError):
                signals.put_health(active.content_digest, ok=wish.healthy.get(active.content_digest, True), reason="")
        if loop._task is not None:
            await loop._task
        done = refreshed and loop.settled and wish.done(loop.state)
        settled = settled + 1 if done else 0
        if settled >= 2:
            return True
        # Trouble is tried again in a minute at most; on trial every second counts.
        time_s[0] += 61.0 if loop._found.trouble and loop.state.phase is not P.TRIAL else 1.0
    raise AssertionError(f"stuck in {loop.state.phase} {loop.state.reason} {loop.state.detail}")


def drop_disk(root: Path) -> None:
    for folder in root.glob("slots/*/*"):
        folder.chmod(0o755)
    shutil.rmtree(root)


# Never used for plain addresses; reading the machine's certificates takes longer than an update here.
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
