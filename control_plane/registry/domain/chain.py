"""Check the whole chain of a release from files alone: root, metadata, policy, attestations, model files.

It uses the metadata objects of python-tuf and the device's own question (`agents.protocol.v1.admission`). Expiry is
reported, not enforced: what was good when it was installed stays proven.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from agents.protocol.v1 import Envelope, EnvelopeError, ReleaseManifest, digest_of, sha256_hex, strict_json
from agents.protocol.v1.admission import Admission, NotAdmittedError, Wish, admit, read_bundle
from agents.protocol.v1.dsse import read_envelope
from agents.protocol.v1.statement import STATEMENT_PAYLOAD, Approval, Provenance, StatementError, TestResult
from agents.protocol.v1.statement import read_statement as statement_of
from agents.protocol.v1.trust import POLICY_PATH, Revocations, TrustPolicy, read_policy, release_path

RELEASE_BYTES = 1 << 20


class ChainError(ValueError):
    """A link of the chain does not hold; the message says which."""


@dataclass(frozen=True, slots=True)
class Files:
    """Everything as bytes. `roots`: the trusted one first, then later ones. `model`: sha256 of each file by path."""

    roots: Sequence[bytes]
    metadata: Mapping[str, bytes]
    policy: bytes
    release: bytes
    attestations: bytes
    model: Mapping[str, str]


@dataclass(slots=True)
class Chain:
    """What was checked, link by link, in words; `admission` says who vouched."""

    release: ReleaseManifest
    admission: Admission
    links: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)


def verify(files: Files, device_class: str | None, at: datetime) -> Chain:
    """Return every link of the chain.

    Raises:
        ChainError: the first link that does not hold.
    """
    links: list[str] = []
    expired: list[str] = []
    try:
        root = _root(files.roots, links)
        targets = _top(root, files.metadata, links, expired, at)
        policy = _policy(targets, files.policy, links)
        release = _release(targets, files, links, expired, at)
    except RepositoryError as error:
        raise ChainError(str(error)) from error
    wish = Wish(release, sha256_hex(files.release), device_class or release.device_classes[0], at)
    admission = _admission(policy, wish, files.attestations)
    links += list(_said(policy, files.attestations))
    links.append(_model(release, files.model))
    return Chain(release, admission, links, expired)


def _root(roots: Sequence[bytes], links: list[str]) -> Root:
    if not roots:
        raise ChainError("there is no root of trust")
    trusted = _load(Root, roots[0], "root")
    trusted.signed.verify_delegate("root", trusted.signed_bytes, trusted.signatures)
    for data in roots[1:]:
        following = _load(Root, data, "root")
        if following.signed.version != trusted.signed.version + 1:
            raise ChainError(f"root {following.signed.version} does not follow {trusted.signed.version}")
        for each in (trusted, following):
            each.signed.verify_delegate("root", following.signed_bytes, following.signatures)
        trusted = following
    role = trusted.signed.roles["root"]
    links.append(f"root {trusted.signed.version}: {role.threshold} of {len(role.keyids)} offline keys")
    found: Root = trusted.signed
    return found


def _top(
    root: Root, metadata: Mapping[str, bytes], links: list[str], expired: list[str], at: datetime
) -> tuple[Targets, Snapshot]:
    timestamp = _load(Timestamp, metadata.get("timestamp"), "timestamp")
    root.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
    snapshot_bytes = metadata.get("snapshot")
    snapshot = _load(Snapshot, snapshot_bytes, "snapshot")
    root.verify_delegate("snapshot", snapshot.signed_bytes, snapshot.signatures)
    if snapshot.signed.version != timestamp.signed.snapshot_meta.version:
        raise ChainError("the timestamp names another snapshot")
    timestamp.signed.snapshot_meta.verify_length_and_hashes(snapshot_bytes or b"")
    targets = _load(Targets, metadata.get("targets"), "targets")
    root.verify_delegate("targets", targets.signed_bytes, targets.signatures)
    if targets.signed.version != snapshot.signed.meta["targets.json"].version:
        raise ChainError("the snapshot names other targets")
    signed: dict[str, Any] = {
        "root": root, "timestamp": timestamp.signed, "snapshot": snapshot.signed, "targets": targets.signed
    }  # fmt: skip
    expired += [f"{name} ended {each.expires:%Y-%m-%d}" for name, each in signed.items() if each.is_expired(at)]
    links.append(f"timestamp {timestamp.signed.version}, snapshot {snapshot.signed.version}: online keys")
    return targets.signed, snapshot.signed


def _policy(top: tuple[Targets, Snapshot], data: bytes, links: list[str]) -> TrustPolicy:
    targets, _ = top
    if POLICY_PATH not in targets.targets:
        raise ChainError("the targets list no trust policy")
    targets.targets[POLICY_PATH].verify_length_and_hashes(data)
    try:
        policy = read_policy(data)
    except ValueError as error:
        raise ChainError(f"the trust policy does not parse: {error}") from error
    links.append(f"trust policy {policy.version}: listed in targets {targets.version}, signed with offline keys")
    return policy


def _release(
    top: tuple[Targets, Snapshot], files: Files, links: list[str], expired: list[str], at: datetime
) -> ReleaseManifest:
    targets, snapshot = top
    path = release_path(sha256_hex(files.release))
    listing, name = _listing(targets, files.metadata, path)
    listing.targets[path].verify_length_and_hashes(files.release)
    if listing.is_expired(at):
        expired.append(f"{name} ended {listing.expires:%Y-%m-%d}")
    newer = snapshot.meta[f"{name}.json"].version
    note = "" if newer == listing.version else f" (the repository has {newer} by now)"
    release = ReleaseManifest.model_validate(strict_json(files.release, RELEASE_BYTES))
    links.append(f"release {release.model} {release.version}, counter {release.counter}: listed in {name}{note}")
    return release


def _listing(targets: Targets, metadata: Mapping[str, bytes], path: str) -> tuple[Targets, str]:
    """Walk the delegations as a client does, and return the role that lists a path."""
    role, name = targets, "targets"
    while path not in role.targets:
        if role.delegations is None:
            raise ChainError(f"{name} does not list the release")
        following = next(iter(role.delegations.get_roles_for_target(path)), None)
        if following is None:
            raise ChainError(f"{name} hands {path} on to nobody")
        found = _load(Targets, metadata.get(following[0]), following[0])
        role.verify_delegate(following[0], found.signed_bytes, found.signatures)
        role, name = found.signed, following[0]
    return role, name


def _admission(policy: TrustPolicy, wish: Wish, attestations: bytes) -> Admission:
    try:
        return admit(policy, Revocations(), wish, read_bundle(attestations))
    except NotAdmittedError as error:
        raise ChainError(f"{error.reason}: {error}") from error


def _said(policy: TrustPolicy, attestations: bytes) -> Iterator[str]:
    trusted = policy.trusted(tuple(policy.keys))
    for envelope in read_bundle(attestations):
        found = _opened(envelope, trusted)
        if found:
            said, signers = found
            yield f"{said}, signed by {', '.join(sorted(policy.keys[each].owner for each in signers))}"


def _opened(envelope: Envelope, trusted: Mapping[str, Any]) -> tuple[str, frozenset[str]] | None:
    try:
        payload, signers = read_envelope(envelope, STATEMENT_PAYLOAD, trusted)
        said = statement_of(payload).predicate
    except (EnvelopeError, StatementError):
        return None
    return (_words(said), signers) if signers else None


def _words(said: Provenance | TestResult | Approval) -> str:
    match said:
        case Provenance():
            sources = said.build_definition.resolved_dependencies
            named = ", ".join(f"{each.name} {each.digest.get('sha256', '')[:12]}" for each in sources)
            return f"trained by {said.run_details.builder.id} from {named}"
        case TestResult():
            suites = [f"{each.name} {each.digest['sha256'][:12]}" for each in said.configuration if each.digest]
            count = f"{len(said.passed_tests)} passed, {len(said.warned_tests)} warned, {len(said.failed_tests)} failed"
            return f"simulation {said.result.value}: {count} ({', '.join(suites)})"
        case Approval():
            return f"approved by {said.approver} for {', '.join(said.device_classes)} until {said.not_after:%Y-%m-%d}"


def _model(release: ReleaseManifest, model: Mapping[str, str]) -> str:
    if digest_of(release.content.model_dump(mode="json", by_alias=True)) != release.content_digest:
        raise ChainError("content_digest is not the digest of the content")
    for file in release.content.files:
        if model.get(file.path) != file.sha256:
            raise ChainError(
                f"{file.path} is {'missing' if file.path not in model else 'not the file that was signed'}"
            )
    return f"{len(release.content.files)} model files: content {release.content_digest[:12]}"


def _load(kind: Any, data: bytes | None, name: str) -> Metadata[Any]:
    if data is None:
        raise ChainError(f"the metadata of {name} is not here")
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    if not isinstance(metadata.signed, kind):
        raise ChainError(f"{name} holds metadata of another kind")
    return metadata
