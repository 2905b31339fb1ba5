"""What the device must never forget about trust, outside python-tuf's cache: floors, policy, revocations, time.

A cache that is wiped or rolled back gives an attacker nothing: versions below the floor are refused. A floor falls only
when the offline root names other keys for the role, which is how a repository recovers from fast-forwarded versions.
"""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from agents.protocol.v1 import canonical_json, strict_json
from agents.protocol.v1.trust import (
    POLICY_BYTES,
    Revocations,
    TrustPolicy,
    read_policy,
    read_revocations,
)
from agents.sdk.files import read_bounded, write_whole
from agents.update.trust import RefusedError

_BYTES: Final = 8 << 20
_VERSIONS: Final = 2**53
_REVOKED: Final = 50_000
_REVOKED_KEYS: Final = 2000
# No honest clock shows less: this code did not exist before.
_EPOCH: Final = datetime(2026, 11, 1, tzinfo=timezone.utc)
# Clocks differ; and the floor need not be written to flash with every check-in.
_SKEW: Final = timedelta(minutes=10)


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)
    revision: int = 0
    root_version: int = 0
    signers: tuple[str, ...] = ()
    policy_version: int = 0
    epoch: int = 0
    revoked: tuple[str, ...] = Field(default=(), max_length=_REVOKED)
    revoked_keys: tuple[str, ...] = Field(default=(), max_length=_REVOKED_KEYS)
    time_floor: AwareDatetime = _EPOCH


class Anchor:
    """One device's trust, on disk (`trust.json`, `policy.json`, `root.json` in a folder of the agent's)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept = self._load()
        self.policy = self._load_policy()

    @property
    def root(self) -> Path:
        return self.folder / "root.json"

    @property
    def cache(self) -> Path:
        return self.folder / "tuf"

    @property
    def revision(self) -> int:
        return self._kept.revision

    @property
    def time_floor(self) -> datetime:
        return self._kept.time_floor

    @property
    def revocations(self) -> Revocations:
        """Return everything revoked within this epoch, also what a later list left out."""
        kept = self._kept
        # Its parts were validated when they came; together they may be longer than one list.
        return Revocations.model_construct(epoch=kept.epoch, release_digests=kept.revoked, keys=kept.revoked_keys)

    def now(self, wall: datetime | None = None) -> datetime:
        """Return the time to judge by: the wall clock, but never before what was already proven."""
        return max(wall or datetime.now(timezone.utc), self._kept.time_floor)

    def check_clock(self, wall: datetime | None = None) -> None:
        """Refuse to look at metadata while the clock is known to be wrong: everything frozen would look fresh.

        Raises:
            RefusedError: the clock is behind; NTP or the next good check-in does not change that, an operator does.
        """
        at = wall or datetime.now(timezone.utc)
        if at < self._kept.time_floor - _SKEW:
            raise RefusedError(
                "clock_behind", f"the clock says {at.isoformat()}, it is at least {self._kept.time_floor.isoformat()}"
            )

    def check_revision(self, revision: int, signers: tuple[str, ...], root_version: int) -> None:
        """Refuse a repository older than one seen before, unless a newer root has named other keys since.

        Raises:
            RefusedError: rolled back.
        """
        if revision > _VERSIONS:
            # Whoever signed it wants it to be the last; it also would not fit into a check-in.
            raise RefusedError("metadata_rollback", f"revision {revision} leaves no room for later ones")
        # An older root names older keys, and those may be stolen by now.
        if root_version < self._kept.root_version:
            raise RefusedError("root_rollback", f"root {root_version} after {self._kept.root_version}")
        if signers == self._kept.signers and revision < self._kept.revision:
            raise RefusedError("metadata_rollback", f"revision {revision} after {self._kept.revision}")

    def saw(
        self, revision: int, signers: tuple[str, ...], root_version: int, policy: bytes, revocations: bytes | None
    ) -> bool:
        """Take over verified metadata; return whether anything that matters for what runs has changed.

        Raises:
            RefusedError: policy or revocations do not parse, are more than can be kept, or the policy is older than one
                seen before.
        """
        self.check_revision(revision, signers, root_version)
        try:
            found = read_policy(policy)
            lost = (
                read_revocations(revocations) if revocations is not None else Revocations(epoch=found.revocation_epoch)
            )
        except ValueError as error:
            raise RefusedError("bad_policy", str(error)[:300]) from error
        if found.version < self._kept.policy_version:
            raise RefusedError("policy_rollback", f"policy {found.version} after {self._kept.policy_version}")
        before = (self._kept.revoked, self._kept.revoked_keys, self._kept.policy_version)
        kept = self._added(found, lost).model_copy(
            update={
                "revision": revision,
                "root_version": root_version,
                "signers": signers,
                "policy_version": found.version,
            }
        )
        if self.policy is None or found != self.policy:
            # First: floors that are ahead of the policy would refuse it after a power cut.
            write_whole(self.folder / "policy.json", policy, durable=True, mode=0o600)
            self.policy = found
        self._keep(kept)
        return before != (kept.revoked, kept.revoked_keys, kept.policy_version)

    def director_keys(self, wall: datetime | None = None) -> dict[str, Ed25519PublicKey]:
        """Return the keys whose orders count now."""
        if self.policy is None:
            return {}
        at, gone = self.now(wall), set(self._kept.revoked_keys)
        valid = {
            name
            for name in self.policy.director
            if name not in gone
            and (self.policy.keys[name].not_before or _EPOCH) <= at + _SKEW
            and at <= (self.policy.keys[name].not_after or at)
        }
        return self.policy.trusted(tuple(valid))

    def heard_time(self, issued_at: datetime, key: str) -> None:
        """Raise the time floor by a signed time; never beyond the signing key's own end, so a thief gains days only.

        A key without an end could put the floor where no clock ever gets: then our own clock is the bound.
        """
        known = self.policy.keys.get(key) if self.policy else None
        bound = known.not_after if known and known.not_after else datetime.now(timezone.utc)
        floor = min(issued_at, bound)
        if floor > self._kept.time_floor + _SKEW:
            self._keep(self._kept.model_copy(update={"time_floor": floor}))

    def _added(self, policy: TrustPolicy, lost: Revocations) -> _Kept:
        kept = self._kept
        if policy.revocation_epoch > kept.epoch:
            # Only the offline keys may forgive.
            kept = kept.model_copy(update={"epoch": policy.revocation_epoch, "revoked": (), "revoked_keys": ()})
        if lost.epoch < kept.epoch:
            return kept
        revoked, keys = {*kept.revoked, *lost.digests}, {*kept.revoked_keys, *lost.keys}
        if len(revoked) > _REVOKED or len(keys) > _REVOKED_KEYS:
            # Forgetting some would let them in, keeping all would fill the disk: only the offline keys can end it.
            raise RefusedError("too_many_revocations", f"{len(revoked)} digests and {len(keys)} keys in one epoch")
        return kept.model_copy(update={"revoked": tuple(sorted(revoked)), "revoked_keys": tuple(sorted(keys))})

    def _keep(self, kept: _Kept) -> None:
        if kept != self._kept:
            write_whole(
                self.folder / "trust.json", canonical_json(kept.model_dump(mode="json")), durable=True, mode=0o600
            )
            self._kept = kept

    def _load(self) -> _Kept:
        data = read_bounded(self.folder / "trust.json", _BYTES)
        if data is None:
            return _Kept()
        try:
            return _Kept.model_validate(strict_json(data, _BYTES))
        except (ValueError, ValidationError) as error:
            # It is written whole or not at all, so this is no power cut. Nothing is believed until people looked.
            raise ValueError(f"{self.folder / 'trust.json'} is damaged: {str(error)[:100]}") from error

    def _load_policy(self) -> TrustPolicy | None:
        data = read_bounded(self.folder / "policy.json", POLICY_BYTES)
        try:
            return None if data is None else read_policy(data)
        except ValueError:
            return None  # it is fetched again, and its version is checked against the floor
