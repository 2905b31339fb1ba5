"""Trust brought up to date: metadata through the TUF process, policy and revocations into the anchor."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from agents.link import Downloader, LinkError
from agents.link.child import Child
from agents.protocol.v1.trust import POLICY_BYTES, POLICY_PATH, REVOCATIONS_BYTES, REVOCATIONS_PATH
from agents.sdk.files import read_bounded
from agents.update.anchor import Anchor
from agents.update.trust import RefusedError

TIMEOUT_S: Final = 90.0


@dataclass(frozen=True)
class Listed:
    """What TUF says of a target."""

    sha256: str
    length_bytes: int


class Repository(Protocol):
    """Where verified TUF metadata comes from; tests may put another one here."""

    async def ask(self, paths: tuple[str, ...]) -> "Metadata": ...


@dataclass(frozen=True)
class Metadata:
    revision: int
    signers: tuple[str, ...]
    root_version: int
    targets: Mapping[str, Listed | None]


class TufProcess:
    """One per process of the agent: devices of one host take turns."""

    def __init__(self, timeout_s: float = TIMEOUT_S, idle_s: float = 20.0) -> None:
        self._timeout_s, self._idle_s = timeout_s, idle_s
        self._turn = asyncio.Lock()
        self._child = Child("agents.update.metadata")
        self._idle: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        async with self._turn:
            self._keep()
            await self._child.stop()

    async def ask(self, anchor: Anchor, url: str, tls: Mapping[str, str] | None, paths: tuple[str, ...]) -> Metadata:
        """Refresh one device's metadata and look `paths` up.

        Raises:
            LinkError: not now; the code says whether the network, the disk or the repository is to blame.
        """
        question = {"cache": str(anchor.cache), "root": str(anchor.root), "url": url, "paths": paths, "tls": tls}
        try:
            async with self._turn:
                reply = await self._asked(question)
        except asyncio.TimeoutError as error:
            raise LinkError("too_slow", "the trust metadata did not come in time") from error
        except EOFError as error:
            raise LinkError("trust_failed", "the process that reads trust metadata died") from error
        if "error" in reply:
            raise LinkError(reply["error"], reply["message"])
        answer = reply["answer"]
        targets = {path: Listed(**found) if found else None for path, found in answer["targets"].items()}
        return Metadata(answer["revision"], tuple(answer["signers"]), answer["root_version"], targets)

    async def _asked(self, question: Mapping[str, Any]) -> dict[str, Any]:
        self._keep()
        try:
            reply = await self._child.ask(question, self._timeout_s)
        except BaseException:
            # Its late answer would be taken for the answer to the next question.
            await self._child.stop()
            raise
        self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._let_go)
        return reply

    def _keep(self) -> None:
        if self._idle is not None:
            self._idle.cancel()

    def _let_go(self) -> None:
        if not self._turn.locked():
            self._child.let_go()


class DeviceRepository:
    """The repository as one device sees it."""

    def __init__(self, process: TufProcess, anchor: Anchor, url: str, tls: Mapping[str, str] | None = None) -> None:
        self._process, self._anchor, self._url, self._tls = process, anchor, url, tls

    async def ask(self, paths: tuple[str, ...]) -> Metadata:
        return await self._process.ask(self._anchor, self._url, self._tls, paths)


class Trust:
    """Keeps the anchor fresh; `look_up` is a refresh that also answers where targets are.

    `changed` is called when policy or revocations are other than before; `stands` says whether a release that was let
    in would be let in by them still.
    """

    def __init__(self, anchor: Anchor, repository: Repository, downloader: Downloader) -> None:
        self.anchor = anchor
        self.changed: Callable[[], None] = lambda: None
        self.stands: Callable[[str], bool] = lambda _digest: True
        self._repository, self._downloader = repository, downloader
        self._turn = asyncio.Lock()

    async def look_up(self, *paths: str) -> dict[str, Listed | None]:
        """Return targets as they are listed now.

        Raises:
            RefusedError: clock behind, rolled back, or a policy that must not be believed.
            LinkError: not reachable, or not valid now.
        """
        async with self._turn:
            self.anchor.check_clock()
            found = await self._repository.ask((POLICY_PATH, REVOCATIONS_PATH, *paths))
            self.anchor.check_revision(found.revision, found.signers, found.root_version)
            policy = await self._small(found.targets.get(POLICY_PATH), POLICY_BYTES)
            if policy is None:
                raise LinkError("no_trust_policy", "the repository has no trust policy")
            revocations = await self._small(found.targets.get(REVOCATIONS_PATH), REVOCATIONS_BYTES)
            seen = (found.revision, found.signers, found.root_version, policy, revocations)
            if await asyncio.to_thread(self.anchor.saw, *seen):
                self.changed()
        return {path: found.targets.get(path) for path in paths}

    def held(self, digest: str, max_bytes: int) -> bytes | None:
        """Return a verified blob that lies on the disk."""
        return read_bounded(self._downloader.blobs.path(digest), max_bytes)

    async def fetch(self, listed: Listed, max_bytes: int) -> bytes:
        """Return a listed target's bytes; RefusedError if it is larger than it may be."""
        if listed.length_bytes > max_bytes:
            raise RefusedError("too_large", f"a target of {listed.length_bytes} bytes, at most {max_bytes} are read")
        path = await self._downloader.fetch(listed.sha256, listed.length_bytes)
        return await asyncio.to_thread(path.read_bytes)

    async def _small(self, listed: Listed | None, max_bytes: int) -> bytes | None:
        return None if listed is None else await self.fetch(listed, max_bytes)
