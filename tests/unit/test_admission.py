import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from agents.protocol.v1 import Envelope, canonical_json, digest_of, seal_envelope
from agents.protocol.v1.admission import (
    BUNDLE_LINES,
    Admission,
    NotAdmittedError,
    Wish,
    admit,
    bundle_bytes,
    read_bundle,
)
from agents.protocol.v1.dsse import Signature
from agents.protocol.v1.statement import (
    APPROVAL,
    PROVENANCE,
    STATEMENT_PAYLOAD,
    TEST_RESULT,
    Result,
    StatementError,
    read_statement,
    statement_bytes,
)
from agents.protocol.v1.trust import ApprovalRequirement, GateRequirement, Requirement, Revocations, TrustKey
from tests.support.trust import (
    CLASS,
    NOW,
    Ring,
    approval,
    approved,
    gate_result,
    id_of,
    provenance,
    public_hex,
    release,
    release_digest,
    sealed,
    vouched,
)

RING = Ring()
RELEASE = release()


def judged(envelopes: list[Envelope], *, ring: Ring = RING, manifest: Any = RELEASE, **changes: Any) -> Admission:
    wish = Wish(
        manifest,
        release_digest(manifest),
        changes.pop("device_class", CLASS),
        changes.pop("at", NOW),
        changes.pop("stage_fraction", 0.25),
    )
    revoked = changes.pop("revocations", Revocations())
    return admit(ring.policy(**changes), revoked, wish, envelopes)


def refused(envelopes: list[Envelope], reason: str, **changes: Any) -> NotAdmittedError:
    with pytest.raises(NotAdmittedError) as caught:
        judged(envelopes, **changes)
    assert caught.value.reason == reason, str(caught.value)
    return caught.value


def gate(result: Result = Result.PASSED, **values: Any) -> Envelope:
    return sealed(TEST_RESULT, RELEASE.content_digest, gate_result(result, **values), RING.gate)


def with_gate(envelope: Envelope) -> list[Envelope]:
    whole = vouched(RING, RELEASE)
    return [whole[0], envelope, *whole[2:]]


def test_a_release_that_all_have_signed_is_admitted() -> None:
    found = judged(read_back(vouched(RING, RELEASE)))
    assert (found.trainer, found.gate, found.approvers) == ("trainer", "gate", ("ada", "bo"))


def read_back(envelopes: list[Envelope]) -> list[Envelope]:
    return list(read_bundle(bundle_bytes(envelopes)))


@pytest.mark.parametrize(
    ("missing", "reason"), [(0, "no_provenance"), (1, "no_gate"), (2, "not_approved"), (3, "not_approved")]
)
def test_b21_each_missing_attestation_is_a_refusal(missing: int, reason: str) -> None:
    whole = vouched(RING, RELEASE)
    refused([each for place, each in enumerate(whole) if place != missing], reason)


def test_b22_failed_and_unknown_gate_results_are_refusals() -> None:
    refused(with_gate(gate(Result.FAILED)), "bad_gate")
    payload = json.loads(base64.b64decode(gate().payload))
    for value in ("GREEN", None, "passed"):
        payload["predicate"]["result"] = value
        refused(with_gate(seal_envelope(STATEMENT_PAYLOAD, canonical_json(payload), [RING.gate])), "no_gate")
    del payload["predicate"]["result"]
    refused(with_gate(seal_envelope(STATEMENT_PAYLOAD, canonical_json(payload), [RING.gate])), "no_gate")


def test_b22_a_warning_needs_more_people_who_accept_it() -> None:
    warned = gate(Result.WARNED, warnedTests=(f"{CLASS}/field improves",))
    said_yes = [approved(RING, RELEASE, name, accepts=Result.WARNED) for name in ("ada", "bo", "cy")]
    before = [vouched(RING, RELEASE)[0], warned]
    assert judged([*before, *said_yes]).result is Result.WARNED
    refused([*before, *said_yes[:2]], "not_approved")
    unaware = [approved(RING, RELEASE, name) for name in ("ada", "bo", "cy")]
    refused([*before, *unaware], "not_approved")
    nobody = ApprovalRequirement(keys=tuple(id_of(key) for key in RING.people.values()), threshold=2)
    refused([*before, *said_yes], "bad_gate", approval=nobody)


def test_b23_a_gate_about_other_content_or_two_subjects_or_none_is_no_gate() -> None:
    other = sealed(TEST_RESULT, digest_of("other"), gate_result(), RING.gate)
    refused(with_gate(other), "no_gate")
    plain = json.loads(base64.b64decode(gate().payload))
    subject = plain["subject"][0]
    for subjects in (
        [subject, subject],
        [],
        [{"name": "x", "digest": {}}],
        [{"name": "x", "digest": {"md5": "0" * 32}}],
    ):
        odd = seal_envelope(STATEMENT_PAYLOAD, canonical_json({**plain, "subject": subjects}), [RING.gate])
        refused(with_gate(odd), "no_gate")
    upper = [{"name": "x", "digest": {"sha256": RELEASE.content_digest.upper()}}]
    loud = seal_envelope(STATEMENT_PAYLOAD, canonical_json({**plain, "subject": upper}), [RING.gate])
    refused(with_gate(loud), "no_gate")


def test_b24_a_key_counts_for_its_own_role_only() -> None:
    whole = vouched(RING, RELEASE)
    by_person = sealed(TEST_RESULT, RELEASE.content_digest, gate_result(), RING.people["ada"])
    refused([whole[0], by_person, *whole[2:]], "no_gate")
    by_trainer = sealed(APPROVAL, release_digest(RELEASE), approval(RELEASE, "bo"), RING.trainer)
    refused([*whole[:3], by_trainer], "not_approved")
    by_director = sealed(PROVENANCE, RELEASE.content_digest, provenance(), RING.director)
    refused([by_director, *whole[1:]], "no_provenance")


def test_b25_a_person_counts_once_however_often_and_with_however_many_keys() -> None:
    whole = vouched(RING, RELEASE, ("ada",))
    refused([*whole, approved(RING, RELEASE, "ada", reason="again")], "not_approved")
    twice = seal_envelope(
        STATEMENT_PAYLOAD, base64.b64decode(whole[2].payload), [RING.people["ada"], RING.people["ada"]]
    )
    refused([*whole[:2], twice], "not_approved")
    second = Ed25519PrivateKey.generate()
    policy = RING.policy()
    keys = {**policy.keys, id_of(second): TrustKey(public=public_hex(second), owner="ada")}
    rule = ApprovalRequirement(keys=(*policy.approval.keys, id_of(second)), threshold=2)
    again = sealed(APPROVAL, release_digest(RELEASE), approval(RELEASE, "ada"), second)
    refused([*whole, again], "not_approved", keys=keys, approval=rule)


def test_b25_one_key_cannot_stand_under_two_names() -> None:
    policy = RING.policy().model_dump(mode="json", by_alias=True)
    ada = id_of(RING.people["ada"])
    policy["keys"]["0" * 64] = policy["keys"][ada]
    with pytest.raises(ValidationError, match="named after another key"):
        type(RING.policy()).model_validate(policy)
    with pytest.raises(ValidationError, match="two purposes"):
        RING.policy(gate=GateRequirement(keys=(id_of(RING.trainer),)))
    with pytest.raises(ValidationError, match="threshold"):
        RING.policy(provenance=Requirement(keys=(id_of(RING.trainer),), threshold=2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device_classes": ("thor",)}, "not for"),
        ({"counter": 2}, "another release"),
        ({"model": "other"}, "another release"),
        ({"version": 9}, "another release"),
        ({"not_after": NOW - timedelta(seconds=1)}, "ended"),
        ({"widest_stage": 0.1}, "reaches to 10%"),
    ],
)
def test_b26_an_approval_is_bound_to_release_class_stage_and_time(changes: dict[str, Any], words: str) -> None:
    whole = vouched(RING, RELEASE, ("ada",))
    error = refused([*whole, approved(RING, RELEASE, "bo", **changes)], "not_approved")
    assert words in str(error)


def test_b26_an_approval_of_another_release_of_the_same_content_does_not_count() -> None:
    again = release(counter=2)
    refused([*vouched(RING, again)[:2], *vouched(RING, RELEASE)[2:]], "not_approved", manifest=again)


def test_b27_payload_type_predicate_type_and_spelling_are_not_confused() -> None:
    whole = vouched(RING, RELEASE)
    payload = base64.b64decode(whole[1].payload)
    other_type = seal_envelope("application/vnd.fleetloop.director.v1+json", payload, [RING.gate])
    refused(with_gate(other_type), "no_gate")
    plain = json.loads(payload)
    for changed in (
        {**plain, "predicateType": APPROVAL},
        {**plain, "_type": "https://in-toto.io/Statement/v0.1"},
    ):
        refused(with_gate(seal_envelope(STATEMENT_PAYLOAD, canonical_json(changed), [RING.gate])), "no_gate")
    spaced = json.dumps(plain, sort_keys=True).encode()
    refused(with_gate(seal_envelope(STATEMENT_PAYLOAD, spaced, [RING.gate])), "no_gate")
    doubled = payload.replace(b'"result":"PASSED"', b'"result":"FAILED","result":"PASSED"')
    assert doubled != payload
    refused(with_gate(seal_envelope(STATEMENT_PAYLOAD, doubled, [RING.gate])), "no_gate")
    with pytest.raises(StatementError, match="twice"):
        read_statement(doubled)


def test_b28_junk_is_passed_over_and_too_much_of_it_is_refused() -> None:
    good = bundle_bytes(vouched(RING, RELEASE))
    assert judged(list(read_bundle(b"not json\n{}\n" + good)))
    stranger = sealed(TEST_RESULT, RELEASE.content_digest, gate_result(Result.FAILED), Ed25519PrivateKey.generate())
    assert judged([stranger, *vouched(RING, RELEASE)])
    with pytest.raises(NotAdmittedError, match="attestations in"):
        read_bundle(b"{}\n" * 10_000 + good)
    refused([stranger] * (BUNDLE_LINES + 1), "too_many_attestations")


def test_b29_what_was_tested_for_one_class_is_not_for_another() -> None:
    both = release(classes=(CLASS, "thor"))
    refused(vouched(RING, both), "bad_gate", manifest=both, device_class="thor")
    assert judged(vouched(RING, both), manifest=both)
    refused(vouched(RING, RELEASE), "wrong_device_class", device_class="thor")
    mixed = gate(failedTests=(f"{CLASS}/regression",))
    refused(with_gate(mixed), "bad_gate")


def test_b30_a_weaker_suite_is_not_taken() -> None:
    rule = GateRequirement(keys=(id_of(RING.gate),), suites={"nominal": (digest_of("suite"),)})
    assert judged(vouched(RING, RELEASE), gate=rule)
    refused(with_gate(gate(suite=digest_of("weaker"))), "bad_gate", gate=rule)
    needs_more = GateRequirement(keys=(id_of(RING.gate),), suites={"regression": (digest_of("suite"),)})
    refused(vouched(RING, RELEASE), "bad_gate", gate=needs_more)


def test_b31_revoked_digests_and_keys_count_for_nothing() -> None:
    whole = vouched(RING, RELEASE)
    for revoked in (
        Revocations(content_digests=(RELEASE.content_digest,)),
        Revocations(release_digests=(release_digest(RELEASE),)),
    ):
        refused(whole, "revoked", revocations=revoked)
    refused(whole, "not_approved", revocations=Revocations(keys=(id_of(RING.people["bo"]),)))
    refused(whole, "no_gate", revocations=Revocations(keys=(id_of(RING.gate),)))


def test_attestations_grow_old_and_another_moment_may_do() -> None:
    rule = GateRequirement(keys=(id_of(RING.gate),), max_age_s=3600)
    late = refused(vouched(RING, RELEASE), "bad_gate", gate=rule, at=NOW + timedelta(hours=2))
    assert late.passing
    ended = refused(vouched(RING, RELEASE), "not_approved", at=NOW + timedelta(days=31))
    assert ended.passing


def test_b33_broken_and_foreign_signatures_count_for_nothing() -> None:
    whole = vouched(RING, RELEASE)
    good = base64.b64decode(whole[1].signatures[0].sig)
    order = 2**252 + 27742317777372353535851937790883648493
    malleable = good[:32] + (int.from_bytes(good[32:], "little") + order).to_bytes(32, "little")
    for sig in (good[:63], good + b"\x00", malleable, b"", bytes(64)):
        signature = Signature(keyid=whole[1].signatures[0].keyid, sig=base64.b64encode(sig).decode())
        refused(with_gate(whole[1].model_copy(update={"signatures": (signature,)})), "no_gate")
    not_base64 = Signature(keyid=whole[1].signatures[0].keyid, sig="%%%")
    refused(with_gate(whole[1].model_copy(update={"signatures": (not_base64,)})), "no_gate")


@pytest.mark.parametrize("point", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "00" * 31 + "80"])
def test_b33_a_key_of_small_order_is_no_key(point: str) -> None:
    with pytest.raises(ValueError, match="small order"):
        TrustKey(public=point, owner="x").load()


def test_media_types_are_a_list_of_what_may_be_loaded() -> None:
    refused(vouched(RING, RELEASE), "media_type", media_types=("application/json",))


def test_a_statement_survives_the_way_through_bytes() -> None:
    for kind, predicate in (
        (PROVENANCE, provenance()),
        (TEST_RESULT, gate_result()),
        (APPROVAL, approval(RELEASE, "ada")),
    ):
        found = read_statement(statement_bytes("driver", RELEASE.content_digest, kind, predicate))
        assert found.predicate == predicate
