"""What the update machine can see and do in the world; the loop knows only the protocol, tests replace it.

Every effect is idempotent and leaves the active model runnable at any instruction.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from agents.link import Downloader
from agents.protocol.v1 import ReleaseManifest, sha256_hex
from agents.sdk.signals import Health, Motion, Signals
from agents.update.machine import Slot, State, Target
from agents.update.qualify import HeldError, Qualifier, Shadow, ShadowVerdict, Verdict
from agents.update.slots import Slots
from agents.update.trust import RELEASE_BYTES, RefusedError, TrustPolicy, read_release

MAX_BUNDLE_BYTES: Final = 16 << 30


@dataclass(frozen=True)
class Release:
    """A release manifest that is trusted, with its bytes as they were ordered."""

    manifest: ReleaseManifest
    data: bytes


class Effects(Protocol):
    def linked(self) -> tuple[str, int, str] | None: ...
    def staged(self, slot: Slot) -> bool: ...
    def motion(self) -> Motion | None: ...
    def health(self) -> Health | None: ...
    def damaged(self, state: State) -> frozenset[tuple[str, int, str]]: ...
    async def fetch_release(self, target: Target) -> Release: ...
    async def fetch_files(self, release: Release) -> None: ...
    async def qualify(self, slot: Slot) -> Verdict: ...
    async def shadow(self, slot: Slot, active: Slot, duration_s: float) -> ShadowVerdict: ...
    def doing(self) -> tuple[str, str] | None: ...
    def stage(self, slot: Slot) -> None: ...
    def switch(self, slot: Slot | None) -> None: ...
    def collect(self) -> None: ...


class UpdateEffects:
    """The real ones."""

    def __init__(
        self,
        *,
        slots: Slots,
        downloader: Downloader,
        signals: Signals,
        qualifier: Qualifier,
        device_class: str,
        trust: TrustPolicy,
        shadow: Shadow | None = None,
        doing: Callable[[], tuple[str, str] | None] = lambda: None,
    ) -> None:
        self._slots, self._downloader, self._signals = slots, downloader, signals
        self._qualifier, self._device_class, self._trust = qualifier, device_class, trust
        self._shadow, self._doing = shadow, doing

    def linked(self) -> tuple[str, int, str] | None:
        return self._slots.linked()

    def staged(self, slot: Slot) -> bool:
        return self._slots.staged(slot)

    def motion(self) -> Motion | None:
        return self._signals.motion()

    def health(self) -> Health | None:
        return self._signals.health()

    def damaged(self, state: State) -> frozenset[tuple[str, int, str]]:
        """Read every slot in use and name those that no longer hold what was verified."""
        used = (state.active, state.fallback, state.candidate)
        return frozenset(
            each.link for each in used if each and self._slots.present(each) and not self._slots.intact(each)
        )

    async def fetch_release(self, target: Target) -> Release:
        """Return the ordered release manifest, once everything the trust policy asks for holds."""
        if target.size_bytes > RELEASE_BYTES:
            raise RefusedError("too_large", f"a release manifest of {target.size_bytes} bytes")
        path = await self._downloader.fetch(target.release_digest, target.size_bytes)
        data = await asyncio.to_thread(path.read_bytes)
        manifest = read_release(data, target, self._device_class)
        if sum(file.size_bytes for file in manifest.content.files) > MAX_BUNDLE_BYTES:
            raise RefusedError("too_large", "the bundle is larger than any device takes")
        await self._trust.admit(target, manifest, data)
        return Release(manifest, data)

    async def fetch_files(self, release: Release) -> None:
        wanted = self._needed(release)
        await asyncio.to_thread(self._collect, {sha256_hex(release.data), *wanted})
        self._downloader.check_room(wanted)
        for digest, size_bytes in wanted.items():
            await self._downloader.fetch(digest, size_bytes)

    async def qualify(self, slot: Slot) -> Verdict:
        return await self._qualifier.qualify(self._slots.path(slot))

    def doing(self) -> tuple[str, str] | None:
        """Return what a qualification is at now, a code, and how far it is."""
        return self._doing()

    async def shadow(self, slot: Slot, active: Slot, duration_s: float) -> ShadowVerdict:
        if self._shadow is None:
            raise HeldError("shadow_unavailable", "a shadow is asked for, and this agent runs none")
        return await self._shadow.shadow(self._slots.path(slot), active.content_digest, duration_s)

    def stage(self, slot: Slot) -> None:
        self._slots.stage(slot, self._release_bytes(slot), self._trust.evidence(slot.release_digest))

    def switch(self, slot: Slot | None) -> None:
        # A word about an earlier run of the same content must not decide the new trial.
        self._signals.forget_health()
        self._slots.switch(slot)

    def collect(self) -> None:
        self._trust.forget({slot.release_digest for slot in self._slots.held()})
        self._collect({})

    def _collect(self, also: Mapping[str, int] | set[str]) -> None:
        self._downloader.blobs.collect(self._slots.wanted_blobs() | set(also))

    def _needed(self, release: Release) -> dict[str, int]:
        return {file.sha256: file.size_bytes for file in release.manifest.content.files}

    def _release_bytes(self, slot: Slot) -> bytes:
        path: Path = self._downloader.blobs.path(slot.release_digest)
        return path.read_bytes()
