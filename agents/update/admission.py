"""The question put to every release: is it listed, and have trainer, gate and people signed for it?"""

import asyncio
from collections.abc import Collection
from datetime import datetime
from typing import Final

from agents.link import LinkError
from agents.protocol.v1 import ReleaseManifest, strict_json
from agents.protocol.v1.admission import BUNDLE_BYTES, NotAdmittedError, Wish, admit, read_bundle
from agents.protocol.v1.trust import attestations_path, release_path
from agents.sdk.files import read_bounded, write_whole
from agents.update.machine import Target
from agents.update.refresh import Listed, Trust
from agents.update.trust import RELEASE_BYTES, RefusedError

_NARROWEST: Final = 1e-9
_RELEASE: Final = "the release that the director ordered"


class SignedByAll:
    """TUF, provenance, gate and people, each with keys of their own; see `agents.protocol.v1.admission`.

    Attestations that let a release in are kept, so that anybody can check the device's model from its disk alone.
    """

    def __init__(self, trust: Trust, device_class: str) -> None:
        self._trust, self._device_class = trust, device_class
        self._kept = trust.anchor.folder / "attestations"
        trust.stands = self.stands

    async def admit(self, target: Target, release: ReleaseManifest, release_bytes: bytes) -> None:
        """Return if the release may be installed.

        Raises:
            RefusedError: not under this counter. LinkError: not now.
        """
        paths = release_path(target.release_digest), attestations_path(target.release_digest)
        listed = await self._looked_up(*paths)
        self._must_match(target, listed[paths[0]], release_bytes)
        attestations = listed[paths[1]]
        if attestations is None:
            raise RefusedError("no_attestations", f"{_RELEASE} is listed without attestations")
        bundle = await self._trust.fetch(attestations, BUNDLE_BYTES)
        self.judge(target, release, bundle, self._trust.anchor.now())
        await asyncio.to_thread(self._keep, target.release_digest, bundle)

    async def _looked_up(self, *paths: str) -> dict[str, Listed | None]:
        try:
            return await self._trust.look_up(*paths)
        except RefusedError as error:
            # A wrong clock or a repository that was rolled back says nothing about the release: it is asked again.
            raise LinkError(error.reason, str(error)) from error

    def evidence(self, release_digest: str) -> bytes | None:
        """Return the attestations that let a release in."""
        return read_bounded(self._kept / f"{release_digest}.jsonl", BUNDLE_BYTES)

    def stands(self, release_digest: str) -> bool:
        """Say whether what let a release in would still do so, by policy and revocations as they are now.

        What only time or a wider stage took away does not count.
        """
        data, bundle = self._trust.held(release_digest, RELEASE_BYTES), self.evidence(release_digest)
        if data is None or bundle is None:
            return False
        try:
            release = ReleaseManifest.model_validate(strict_json(data, RELEASE_BYTES))
            target = Target(release_digest, len(data), release.counter, stage_fraction=_NARROWEST)
            self.judge(target, release, bundle, self._trust.anchor.now())
        except LinkError:
            return True
        except (RefusedError, ValueError):
            return False
        return True

    def forget(self, wanted: Collection[str]) -> None:
        """Delete the attestations of releases that are gone from the device."""
        for path in self._kept.glob("*.jsonl"):
            if path.stem not in wanted:
                path.unlink(missing_ok=True)

    def _keep(self, release_digest: str, bundle: bytes) -> None:
        self._kept.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self._kept / f"{release_digest}.jsonl", bundle, durable=True)

    def judge(self, target: Target, release: ReleaseManifest, bundle: bytes, at: datetime) -> None:
        """Return if policy, revocations and attestations let the release in at this time."""
        anchor = self._trust.anchor
        if anchor.policy is None:
            raise LinkError("no_trust_policy", "no trust policy has been read yet")
        # Whoever does not say how wide the stage is may mean everybody.
        wide = 1.0 if target.stage_fraction is None else target.stage_fraction
        wish = Wish(release, target.release_digest, self._device_class, at, wide)
        try:
            admit(anchor.policy, anchor.revocations, wish, read_bundle(bundle))
        except NotAdmittedError as error:
            if error.passing:
                raise LinkError(error.reason, str(error)) from error
            raise RefusedError(error.reason, str(error)) from error

    def _must_match(self, target: Target, listed: Listed | None, release_bytes: bytes) -> None:
        if listed is None:
            if self._trust.anchor.revision < target.revision:
                raise LinkError("not_listed_yet", f"{_RELEASE} is not in the repository yet")
            raise RefusedError("not_listed", f"{_RELEASE} is not in the repository")
        if (listed.sha256, listed.length_bytes) != (target.release_digest, len(release_bytes)):
            raise RefusedError("listed_otherwise", f"{_RELEASE} has another digest in the repository")
