"""May this release be installed? One pure answer, given by the same code on the device and before publishing.

Everything is *required*, nothing is forbidden by presence: a bundle of attestations is not itself signed, so lines may
be missing or added. Junk is passed over (bounded), what is missing is a refusal.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agents.protocol.v1.canonical import canonical_json, strict_json
from agents.protocol.v1.dsse import Envelope, EnvelopeError, read_envelope
from agents.protocol.v1.release import ReleaseManifest
from agents.protocol.v1.statement import (
    APPROVAL,
    PROVENANCE,
    STATEMENT_PAYLOAD,
    TEST_RESULT,
    Approval,
    Provenance,
    Result,
    Statement,
    StatementError,
    TestResult,
    read_statement,
)
from agents.protocol.v1.trust import Requirement, Revocations, TrustPolicy

BUNDLE_BYTES: Final = 2 << 20
BUNDLE_LINES: Final = 64


class NotAdmittedError(Exception):
    """The release must not be installed; `reason` is a code. `passing`: another moment may give another answer."""

    def __init__(self, reason: str, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.passing = passing


@dataclass(frozen=True)
class Wish:
    """What is asked: this release, on a device of this class, at this time, as part of a stage this wide."""

    release: ReleaseManifest
    release_digest: str
    device_class: str
    at: datetime
    stage_fraction: float | None = None


@dataclass(frozen=True)
class Admission:
    """Why a release may run: who signed what. For people and reports."""

    trainer: str
    gate: str
    result: Result
    approvers: tuple[str, ...]
    policy_version: int


@dataclass(frozen=True)
class _Voice:
    """One readable statement and those who signed it, by key id."""

    statement: Statement
    keys: frozenset[str]


def bundle_bytes(envelopes: Iterable[Envelope]) -> bytes:
    """Return attestations as `.intoto.jsonl`: one envelope per line."""
    return b"".join(canonical_json(each.model_dump(mode="json", by_alias=True)) + b"\n" for each in envelopes)


def read_bundle(data: bytes) -> tuple[Envelope, ...]:
    """Return the envelopes of a bundle, without those lines that are none.

    Raises:
        NotAdmittedError: more bytes or lines than anybody needs.
    """
    lines = data.split(b"\n")
    if len(data) > BUNDLE_BYTES or len(lines) > BUNDLE_LINES + 1:
        raise NotAdmittedError("too_many_attestations", f"{len(lines)} attestations in {len(data)} bytes")
    return tuple(each for line in lines if (each := _envelope(line)) is not None)


def admit(policy: TrustPolicy, revocations: Revocations, wish: Wish, envelopes: Iterable[Envelope]) -> Admission:
    """Return who vouched for a release.

    Raises:
        NotAdmittedError: revoked, not for this class, or something that the policy requires is missing.
    """
    release = wish.release
    _check_release(policy, revocations, wish)
    voices = list(_voices(policy, revocations, envelopes))
    provenance = _one(policy, policy.provenance, voices, PROVENANCE, release.content_digest, wish, _any_training)
    gate = _one(policy, policy.gate, voices, TEST_RESULT, release.content_digest, wish, _gate_check(policy, wish))
    result = _result(gate[0])
    approvers = _approvers(policy, voices, wish, result)
    return Admission(provenance[1], gate[1], result, approvers, policy.version)


def _check_release(policy: TrustPolicy, revocations: Revocations, wish: Wish) -> None:
    release = wish.release
    if {wish.release_digest, release.content_digest} & revocations.digests:
        raise NotAdmittedError("revoked", "this release was revoked")
    if wish.device_class not in release.device_classes:
        raise NotAdmittedError("wrong_device_class", f"the release is not for {wish.device_class}")
    strange = sorted({file.media_type for file in release.content.files} - set(policy.media_types))
    if strange:
        raise NotAdmittedError("media_type", f"files of type {strange[0][:60]} are not allowed by the trust policy")


def _envelope(line: bytes) -> Envelope | None:
    try:
        return Envelope.model_validate(strict_json(line, BUNDLE_BYTES))
    except ValueError:
        return None


def _voices(policy: TrustPolicy, revocations: Revocations, envelopes: Iterable[Envelope]) -> Iterator[_Voice]:
    trusted = policy.trusted(tuple(set(policy.keys) - set(revocations.keys)))
    for count, envelope in enumerate(envelopes):
        if count >= BUNDLE_LINES:
            raise NotAdmittedError("too_many_attestations", f"more than {BUNDLE_LINES} attestations")
        try:
            payload, signers = read_envelope(envelope, STATEMENT_PAYLOAD, trusted)
            if signers:  # what nobody known has signed is not even read
                yield _Voice(read_statement(payload), signers)
        except (EnvelopeError, StatementError):
            continue


Check = Callable[[Statement], str | None]


def _one(
    policy: TrustPolicy,
    rule: Requirement,
    voices: Iterable[_Voice],
    predicate: str,
    digest: str,
    wish: Wish,
    check: Check,
) -> tuple[Statement, str]:
    """Return the newest statement of a kind that satisfies its requirement, and who signed it."""
    why = f"no {_SHORT[predicate]} about this release's content is signed as the trust policy asks"
    reason, passing = f"no_{_SHORT[predicate]}", False
    good: list[tuple[datetime, Statement, str]] = []
    for voice in voices:
        said = voice.statement
        owners = _owners(policy, rule, voice)
        if said.predicate_type != predicate or said.subject.digest.sha256 != digest or len(owners) < rule.threshold:
            continue
        wrong = check(said)
        if wrong is None and _too_old(rule, said, wish.at):
            wrong, passing = f"the {_SHORT[predicate]} of {said.predicate.made_at} is too old", True
        if wrong is None:
            good.append((said.predicate.made_at, said, ", ".join(sorted(owners))))
        else:
            why, reason = wrong, f"bad_{_SHORT[predicate]}"
    if not good:
        raise NotAdmittedError(reason, why, passing=passing)
    return max(good, key=lambda each: each[0])[1:]


_SHORT: Final[Mapping[str, str]] = {PROVENANCE: "provenance", TEST_RESULT: "gate", APPROVAL: "approval"}


def _owners(policy: TrustPolicy, rule: Requirement, voice: _Voice) -> set[str]:
    return {policy.keys[each].owner for each in voice.keys & set(rule.keys)}


def _too_old(rule: Requirement, said: Statement, at: datetime) -> bool:
    return rule.max_age_s is not None and (at - said.predicate.made_at).total_seconds() > rule.max_age_s


def _any_training(said: Statement) -> str | None:
    is_ours = isinstance(said.predicate, Provenance) and said.predicate.build_definition.resolved_dependencies
    return None if is_ours else "the provenance names nothing that the model was made from"


def _gate_check(policy: TrustPolicy, wish: Wish) -> Check:
    def check(said: Statement) -> str | None:
        found = said.predicate
        if not isinstance(found, TestResult):
            return "no test result"
        mine = f"{wish.device_class}/"
        if found.result is Result.FAILED or any(name.startswith(mine) for name in found.failed_tests):
            return f"the gate said {found.result.value}"
        if not any(name.startswith(mine) for name in found.passed_tests):
            return f"the gate tested nothing for {wish.device_class}"
        used = {each.name: each.digest.get("sha256") for each in found.configuration}
        for name, allowed in policy.gate.suites.items():
            if used.get(f"suite:{name}") not in allowed:
                return f"the gate did not use an allowed version of suite {name}"
        return None

    return check


def _result(said: Statement) -> Result:
    return said.predicate.result if isinstance(said.predicate, TestResult) else Result.FAILED


def _approvers(policy: TrustPolicy, voices: Iterable[_Voice], wish: Wish, result: Result) -> tuple[str, ...]:
    rule = policy.approval
    needed = rule.threshold if result is Result.PASSED else rule.warned_threshold
    if needed is None:
        raise NotAdmittedError("bad_gate", "the gate said WARNED and the trust policy lets nobody insist")
    people: set[str] = set()
    why, passing = "", False
    for voice in voices:
        said = voice.statement.predicate
        if not isinstance(said, Approval) or voice.statement.subject.digest.sha256 != wish.release_digest:
            continue
        wrong, may_pass = _wrong_approval(said, wish, result)
        if wrong is None and _too_old(rule, voice.statement, wish.at):
            wrong, may_pass = f"the approval by {said.approver} is too old", True
        if wrong is None:
            people |= _owners(policy, rule, voice)
        else:
            why, passing = f"; {wrong}", passing or may_pass
    if len(people) < needed:
        count = f"{len(people)} of {needed} needed people approve of this release{why}"
        raise NotAdmittedError("not_approved", count, passing=passing)
    return tuple(sorted(people))


def _wrong_approval(said: Approval, wish: Wish, result: Result) -> tuple[str | None, bool]:
    release = wish.release
    if (said.release_digest, said.counter, said.model, said.version) != (
        wish.release_digest, release.counter, release.model, release.version,
    ):  # fmt: skip
        return f"the approval by {said.approver} is for another release", False
    if wish.device_class not in said.device_classes:
        return f"the approval by {said.approver} is not for {wish.device_class}", False
    if result is Result.WARNED and said.accepts is not Result.WARNED:
        return f"the approval by {said.approver} does not accept the gate's warning", False
    if wish.stage_fraction is not None and wish.stage_fraction > said.widest_stage + 1e-9:
        return f"the approval by {said.approver} reaches to {said.widest_stage:.0%} of the fleet", True
    if wish.at > said.not_after:
        return f"the approval by {said.approver} ended at {said.not_after.isoformat()}", True
    return None, False
