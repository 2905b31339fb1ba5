"""Take attestations in, offer what is to be signed, and publish a release once all have signed for it.

Publishing asks the very function that devices ask: `agents.protocol.v1.admission.admit`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from agents.protocol.v1 import Envelope, EnvelopeError, ReleaseManifest, sha256_hex, strict_json
from agents.protocol.v1.admission import BUNDLE_LINES, NotAdmittedError, Wish, admit, bundle_bytes
from agents.protocol.v1.dsse import read_envelope
from agents.protocol.v1.statement import (
    APPROVAL,
    PROVENANCE,
    STATEMENT_BYTES,
    STATEMENT_PAYLOAD,
    TEST_RESULT,
    Statement,
    StatementError,
    read_statement,
)
from agents.protocol.v1.trust import Revocations, TrustPolicy, attestations_path, release_path
from control_plane.audit import service as audit
from control_plane.kit import clock, outbox
from control_plane.kit.db import Session
from control_plane.kit.errors import Conflict, Invalid, NotFound
from control_plane.kit.objects import ObjectStore
from control_plane.kit.signing import Keyring
from control_plane.registry.models import Attestation, Release
from control_plane.registry.schemas import AttestationItem
from control_plane.registry.service.catalog import VOUCHED
from control_plane.registry.service.offline import current_policy, current_revocations
from control_plane.registry.service.repository import publish_targets
from control_plane.registry.store import attestations as store
from control_plane.registry.store import find_release


async def add_attestation(session: Session, objects: ObjectStore, actor: str, text: str) -> AttestationItem:
    """Keep an attestation, as the exact bytes, that somebody whom the trust policy names has signed.

    Raises:
        Invalid: not an attestation, or signed by nobody who counts for what it says.
        Conflict: no trust policy yet, or too many attestations about one thing.
        NotFound: an approval of a release that does not exist.
    """
    policy = await current_policy(session, objects)
    if policy is None:
        raise Conflict("this server has no trust policy yet; run: fleetloop keys init", code="trust_not_set_up")
    data = text.encode()
    statement, signers = _opened(policy, data)
    subject = statement.subject.digest.sha256
    if statement.predicate_type == APPROVAL and await find_release(session, subject) is None:
        raise NotFound(f"there is no release {subject}")
    if await store.count_about(session, subject) >= BUNDLE_LINES // 2:
        raise Conflict(
            f"{BUNDLE_LINES // 2} attestations about {subject[:12]} are enough", code="too_many_attestations"
        )
    owners = sorted({policy.keys[each].owner for each in signers})
    values: dict[str, Any] = {
        "envelope_sha256": sha256_hex(data),
        "subject_sha256": subject,
        "predicate_type": statement.predicate_type,
        "keyids": sorted(signers),
        "owners": owners,
        "envelope": data,
        "policy_version": policy.version,
        "received_by": actor,
    }
    if await store.insert_attestation(session, values):
        facts = {"predicate": statement.predicate_type, "signed_by": owners}
        await audit.record(session, actor, "attestation.add", subject, ", ".join(owners), **facts)
        await outbox.emit(session, VOUCHED, {"digest": subject})
    found = await store.about(session, [subject])
    return _item(next(row for row in found if row.envelope_sha256 == values["envelope_sha256"]))


def _opened(policy: TrustPolicy, data: bytes) -> tuple[Statement, frozenset[str]]:
    try:
        envelope = Envelope.model_validate(strict_json(data, STATEMENT_BYTES * 2))
        payload, signers = read_envelope(envelope, STATEMENT_PAYLOAD, policy.trusted(tuple(policy.keys)))
        statement = read_statement(payload)
    except (EnvelopeError, StatementError, ValueError) as error:
        raise Invalid(f"this is not an attestation: {str(error)[:300]}", code="attestation_refused") from error
    rule = {PROVENANCE: policy.provenance, TEST_RESULT: policy.gate, APPROVAL: policy.approval}
    counted = signers & set(rule[statement.predicate_type].keys)
    if not counted:
        raise Invalid(
            "nobody whom the trust policy names for this kind of statement has signed it", code="attestation_refused"
        )
    return statement, counted


async def sign_statement(
    session: Session, objects: ObjectStore, keyring: Keyring, role: str, statement: bytes
) -> AttestationItem:
    """Sign a statement with a role's key that the trust policy names, and keep it."""
    policy = await current_policy(session, objects)
    allowed = set(policy.keys) if policy else None
    envelope = await asyncio.to_thread(keyring.seal, role, STATEMENT_PAYLOAD, statement, allowed)
    return await add_attestation(session, objects, role, envelope.model_dump_json(by_alias=True))


async def list_attestations(session: Session, digest: str) -> list[AttestationItem]:
    """Return what was said about a content or a release; about a release also what was said about its content."""
    subjects = {digest}
    release = await find_release(session, digest)
    if release is not None:
        subjects.add(release.content_digest)
    return [_item(row) for row in await store.about(session, subjects)]


async def publish_vouched(session: Session, objects: ObjectStore, keyring: Keyring, digest: str) -> int:
    """Publish every release of a digest that all have signed for; return how many are published now.

    What a release still waits for is kept with it, in the words that a device would use.
    """
    published = 0
    for release in await store.releases_of(session, digest):
        published += await _publish(session, objects, keyring, release)
    return published


async def _publish(session: Session, objects: ObjectStore, keyring: Keyring, release: Release) -> bool:
    policy = await current_policy(session, objects)
    if policy is None:
        release.waits_for = "the trust policy: fleetloop keys init"
        return False
    envelopes = [_envelope(row) for row in await store.about(session, [release.content_digest, release.digest])]
    manifest = ReleaseManifest.model_validate_json(release.manifest)
    revoked = await current_revocations(session, objects) or Revocations()
    try:
        for device_class in release.device_classes:
            admit(policy, revoked, Wish(manifest, release.digest, device_class, clock.now()), envelopes)
    except NotAdmittedError as error:
        release.waits_for = str(error)
        return False
    files = {release_path(release.digest): release.manifest, attestations_path(release.digest): bundle_bytes(envelopes)}
    revision = await publish_targets(session, objects, keyring, files)
    if release.published_revision is None:
        release.published_revision = revision
        facts = {"revision": revision, "policy": policy.version}
        await audit.record(session, "publisher", "release.publish", release.digest, "all have signed", **facts)
    release.waits_for = ""
    return True


async def ways_back(session: Session, digest: str) -> Sequence[Release]:
    """Return the releases that were cut as the way back from this one."""
    return await store.ways_back(session, digest)


async def manifest_bytes(session: Session, digest: str) -> bytes:
    """Return a release's manifest, as the exact bytes."""
    release = await find_release(session, digest)
    if release is None:
        raise NotFound(f"there is no release {digest}")
    return release.manifest


def _envelope(row: Attestation) -> Envelope:
    return Envelope.model_validate_json(row.envelope)


def _item(row: Attestation) -> AttestationItem:
    return AttestationItem(
        sha256=row.envelope_sha256,
        subject=row.subject_sha256,
        predicate_type=row.predicate_type,
        owners=row.owners,
        keyids=row.keyids,
        envelope=row.envelope.decode(),
        policy_version=row.policy_version,
        received_by=row.received_by,
        received_at=row.received_at,
    )
