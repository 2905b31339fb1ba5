from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agents.protocol.v1 import DIRECTOR_PAYLOAD, canonical_json, digest_of, key_id, seal_envelope, sha256_hex
from agents.update import DirectorCheck, RefusedError, Target
from agents.update.trust import read_release

KEY = Ed25519PrivateKey.generate()
KEYS = {key_id(KEY.public_key()): KEY.public_key()}
NONCE = "n" * 32
START = datetime(2020, 1, 1)  # noqa: DTZ001
ORDER = {"release_digest": "a" * 64, "size_bytes": 10, "counter": 3}


def manifest(**changes: Any) -> dict[str, Any]:
    return {
        "schema": "fleetloop.director/v1",
        "device_id": "d-1",
        "nonce": NONCE,
        "seq": 1,
        "issued_at": "2020-01-01T00:00:00Z",
        "expires_at": "2020-01-01T01:00:00Z",
        "order": ORDER,
        **changes,
    }


def accept(payload: bytes, key: Ed25519PrivateKey = KEY, kind: str = DIRECTOR_PAYLOAD) -> Target | None:
    return DirectorCheck("d-1", lambda: KEYS).accept(seal_envelope(kind, payload, [key]), NONCE).target


def test_a_good_manifest_is_believed_whatever_the_clock_says() -> None:
    check = DirectorCheck("d-1", lambda: KEYS)
    order = check.accept(seal_envelope(DIRECTOR_PAYLOAD, canonical_json(manifest()), [KEY]), NONCE)
    assert order.target == Target("a" * 64, 10, 3)
    assert order.life_s == 3600


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device_id": "d-2"}, "other_device"),
        ({"nonce": "m" * 32}, "wrong_nonce"),
        ({"seq": -1}, "bad_manifest"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expired"),
        ({"expires_at": "2020-01-01T01:00:00"}, "bad_manifest"),
        ({"schema": "fleetloop.director/v2"}, "bad_manifest"),
        ({"order": {**ORDER, "counter": 0}}, "bad_manifest"),
        ({"order": {**ORDER, "release_digest": "../../etc"}}, "bad_manifest"),
        ({"order": {**ORDER, "size_bytes": 1 << 40}}, "bad_manifest"),
    ],
)
def test_a_manifest_that_must_not_be_believed(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        accept(canonical_json(manifest(**changes)))
    assert refused.value.reason == reason


def test_another_key_or_payload_type_does_not_count() -> None:
    for arguments in ({"key": Ed25519PrivateKey.generate()}, {"kind": "application/vnd.in-toto+json"}):
        with pytest.raises(RefusedError) as refused:
            accept(canonical_json(manifest()), **arguments)  # type: ignore[arg-type]
        assert refused.value.reason == "bad_signature"


@pytest.mark.parametrize("bad", [b'{"a":1,"a":2}', b'{"a":NaN}', b"[", b"\xff", b"[" * 60_000])
def test_a_payload_that_reads_in_two_ways_is_refused(bad: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        accept(bad)
    assert refused.value.reason == "bad_manifest"


def test_no_manifest_is_taken_twice() -> None:
    check = DirectorCheck("d-1", lambda: KEYS)
    first = seal_envelope(DIRECTOR_PAYLOAD, canonical_json(manifest(seq=5)), [KEY])
    check.accept(first, NONCE)
    with pytest.raises(RefusedError) as refused:
        check.accept(first, NONCE)
    assert refused.value.reason == "old_seq"


def test_a_life_has_an_end_whatever_the_director_says() -> None:
    far = (START + timedelta(days=20_000)).isoformat() + "Z"
    envelope = seal_envelope(DIRECTOR_PAYLOAD, canonical_json(manifest(expires_at=far)), [KEY])
    assert DirectorCheck("d-1", lambda: KEYS).accept(envelope, NONCE).life_s == 7 * 24 * 3600


CONTENT = {
    "schema": "fleetloop.content/v1",
    "model": "m",
    "files": [{"path": "model.onnx", "size_bytes": 1, "sha256": "b" * 64, "media_type": "x", "role": "model"}],
}


def release(**changes: Any) -> bytes:
    content = changes.pop("content", CONTENT)
    said = {
        "schema": "fleetloop.release/v1", "model": "m", "version": 1, "counter": 3, "device_classes": ["test"],
        "content_digest": digest_of(content), "content": content, **changes,
    }  # fmt: skip
    return canonical_json(said)


def read(data: bytes, **changes: Any) -> Any:
    target = Target(**{"release_digest": sha256_hex(data), "size_bytes": len(data), "counter": 3, **changes})
    return read_release(data, target, "test")


def file(**changes: Any) -> dict[str, Any]:
    return {**CONTENT, "files": [{**CONTENT["files"][0], **changes}]}  # type: ignore[dict-item]


def test_a_good_release_is_read() -> None:
    assert read(release()).content_digest == digest_of(CONTENT)


def test_what_a_later_version_added_to_the_content_is_part_of_its_digest() -> None:
    assert read(release(content={**CONTENT, "future": 1})).counter == 3


@pytest.mark.parametrize(
    ("data", "changes", "reason"),
    [
        (release(), {"release_digest": "c" * 64}, "release_mismatch"),
        (release(), {"size_bytes": 5}, "release_mismatch"),
        (release(counter=4), {}, "counter_mismatch"),
        (release(device_classes=["other"]), {}, "wrong_device_class"),
        (release(content_digest="d" * 64), {}, "content_mismatch"),
        (release(content=file(path="../evil")), {}, "bad_release"),
        (release(content=file(path=".release.json")), {}, "bad_release"),
        (release(content=file(sha256="../" + "a" * 61)), {}, "bad_release"),
        (release(content={**CONTENT, "files": CONTENT["files"] * 2}), {}, "bad_release"),  # type: ignore[operator]
        (release()[:-1] + b',"counter":3}', {}, "bad_release"),
    ],
)
def test_a_release_that_must_not_be_installed(data: bytes, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        read(data, **changes)
    assert refused.value.reason == reason
