"""What must hold of offline metadata, when online metadata is due, what gives alarm; keyring and high-water mark."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, Root, Targets

from agents.protocol.v1 import key_id
from control_plane.kit.errors import Invalid, Refused, Unavailable
from control_plane.kit.signing import KeyEntry, Keyring, file_entry, load_signer, public_key_of
from control_plane.registry.domain import tuf
from control_plane.registry.domain.tuf_rules import Held, alarms, check_root, check_targets, due
from control_plane.registry.service import init_keys
from control_plane.registry.service.ceremony import Base, base_of
from control_plane.registry.service.mark import Mark, read_mark, write_mark

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    init_keys(tmp_path, NOW)
    return base_of(tmp_path)


def signed_by(folder: Path, metadata: Metadata[Any], *names: str) -> Metadata[Any]:
    metadata.signatures.clear()
    for name in names:
        signer = load_signer(folder / "offline", name)
        metadata.sign(CryptoSigner(signer.private, public_key_of(signer.private.public_key())), append=True)
    return metadata


def next_root(base: Base) -> Metadata[Root]:
    base.root.signed.version = 2
    return base.root


def held(**changes: Any) -> dict[str, Held]:
    found = {role: Held(3, NOW + tuf.lifetime(role), NOW) for role in ("root", "targets", *tuf.DELEGATED, *tuf.BINS)}
    return found | {role: Held(3, NOW + tuf.lifetime(role), NOW) for role in ("snapshot", "timestamp")} | changes


def test_the_first_root_and_targets_are_what_devices_need(base: Base, tmp_path: Path) -> None:
    root = base.root.signed
    assert {role: (len(each.keyids), each.threshold) for role, each in root.roles.items()} == {
        "root": (3, 2), "targets": (2, 2), "snapshot": (1, 1), "timestamp": (1, 1)
    }  # fmt: skip
    assert root.consistent_snapshot
    check_root(base.root, None, NOW)
    check_targets(base.targets, root, None, base.policy_data, NOW)
    assert (root.expires - NOW, base.targets.signed.expires - NOW) == (timedelta(days=730), timedelta(days=365))


def test_a_root_follows_only_with_the_old_and_the_new_threshold(base: Base, tmp_path: Path) -> None:
    old = base_of(tmp_path).root.signed
    check_root(signed_by(tmp_path, next_root(base), "root-1", "root-3"), old, NOW)
    with pytest.raises(Refused, match="1 of 2 signatures"):
        check_root(signed_by(tmp_path, base.root, "root-2"), old, NOW)
    with pytest.raises(Refused, match="0 of 2 signatures"):
        check_root(signed_by(tmp_path, base.root, "targets-1", "targets-2"), old, NOW)
    base.root.signed.version = 3
    with pytest.raises(Refused, match="2 is next"):
        check_root(signed_by(tmp_path, base.root, "root-1", "root-2"), old, NOW)


def test_roots_of_a_shape_that_devices_must_not_get(base: Base, tmp_path: Path) -> None:
    old, root = base_of(tmp_path).root.signed, next_root(base).signed
    root.consistent_snapshot = False
    with pytest.raises(Refused, match="consistent_snapshot"):
        check_root(signed_by(tmp_path, base.root, "root-1", "root-2"), old, NOW)
    root.consistent_snapshot = True
    with pytest.raises(Refused, match="expired"):
        check_root(signed_by(tmp_path, base.root, "root-1", "root-2"), old, NOW + timedelta(days=731))
    first = root.keys[root.roles["targets"].keyids[0]]
    root.keys["f" * 64] = SSlibKey("f" * 64, first.keytype, first.scheme, dict(first.keyval))
    root.roles["targets"].keyids = [first.keyid, "f" * 64]
    with pytest.raises(Refused, match="one key twice for targets"):
        check_root(signed_by(tmp_path, base.root, "root-1", "root-2"), old, NOW)
    root.roles["targets"].keyids = list(root.roles["snapshot"].keyids)
    with pytest.raises(Refused, match="must not sign root or targets"):
        check_root(signed_by(tmp_path, base.root, "root-1", "root-2"), old, NOW)


def test_targets_that_hand_on_anything_else_are_refused(base: Base, tmp_path: Path) -> None:
    root, targets, policy = base.root.signed, base.targets.signed, base.policy_data

    def check(*names: str, old: Targets | None = None, data: bytes = policy) -> None:
        check_targets(signed_by(tmp_path, base.targets, *names), root, old, data, NOW)

    with pytest.raises(Refused, match="1 of 2 signatures"):
        check("targets-1")
    with pytest.raises(Refused, match="is not above 1"):
        check("targets-1", "targets-2", old=base_of(tmp_path).targets.signed)
    with pytest.raises(Refused, match="not those that targets lists"):
        check("targets-1", "targets-2", data=policy + b" ")
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    targets.delegations.roles["releases"].paths = ["releases/*", "policy/*"]
    with pytest.raises(Refused, match="with their own paths"):
        check("targets-1", "targets-2")


@pytest.mark.parametrize(
    ("after", "roles"),
    [
        (timedelta(hours=5), set()),
        (timedelta(hours=6), {"timestamp"}),
        (timedelta(days=9), {"timestamp"}),
        (timedelta(days=10), {"timestamp", "snapshot"}),
        (timedelta(days=61), {"timestamp", "snapshot", *tuf.DELEGATED, *tuf.BINS}),
    ],
)
def test_what_is_due_when(after: timedelta, roles: set[str]) -> None:
    assert due(held(), NOW + after) == roles


def test_a_missing_bin_is_due_at_once() -> None:
    found = held()
    del found["releases-bin-7f"]
    assert due(found, NOW) == {"releases-bin-7f"}


def test_alarms_come_before_expiry_and_name_the_remedy(base: Base) -> None:
    assert alarms(held(), base.policy, NOW) == {}
    assert set(alarms(held(), None, NOW + timedelta(hours=49))) == {"timestamp"}
    late = alarms(held(), base.policy, NOW + timedelta(days=700, hours=1))
    assert "fleetloop keys renew root" in late["root"]
    assert "expires in 30 days" in late["root"]
    assert "devices install nothing new" in late["snapshot"]
    assert any(
        "director key" in each for each in alarms(held(), base.policy, NOW + timedelta(days=23, hours=1)).values()
    )


def test_paths_spread_over_the_bins_and_stay_there() -> None:
    roles = {tuf.role_of(f"releases/{number:064x}.json") for number in range(4000)}
    assert roles == set(tuf.BINS)
    assert tuf.role_of("policy/revocations.json") == "revocations"
    with pytest.raises(Invalid):
        tuf.role_of("policy/trust-policy.json")


def test_a_keyring_signs_with_the_keys_that_count(tmp_path: Path, base: Base) -> None:
    ring = Keyring(tmp_path)
    (entry,) = ring.entries("releases")
    assert entry.keyid == key_id(load_signer(tmp_path / "online", "releases").private.public_key())
    (signer,) = ring.signers("releases", [entry.keyid], 1)
    entry.public.verify_signature(signer.sign(b"data"), b"data")
    with pytest.raises(Refused, match="has 1"):
        ring.signers("releases", [entry.keyid, "0" * 64], 2)
    with pytest.raises(Refused, match="no key file for gardener"):
        ring.raw("gardener")


def test_a_keyring_reads_its_index_again_and_takes_the_newest_key_that_counts(tmp_path: Path, base: Base) -> None:
    ring, other = Keyring(tmp_path), Keyring(tmp_path)
    old = ring.raw("director")
    new = load_signer(tmp_path / "online", "director-2")
    other.add("director", file_entry(tmp_path, "online/director-2"))
    assert ring.raw("director").public_hex == new.public_hex
    assert ring.raw("director", {key_id(old.private.public_key())}).public_hex == old.public_hex


def test_a_key_of_another_kind_and_place_is_configuration(tmp_path: Path, base: Base) -> None:
    """An ECDSA key by URI, as a KMS or a token would give one, signs through the same call."""
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "elsewhere.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    ring = Keyring(tmp_path)
    entry = KeyEntry("file2:elsewhere.pem", public_key_of(key.public_key()))
    ring.add("snapshot", entry)
    (signer,) = Keyring(tmp_path).signers("snapshot", [entry.keyid], 1)
    entry.public.verify_signature(signer.sign(b"data"), b"data")
    unknown = KeyEntry("nosuch:key", public_key_of(Ed25519PrivateKey.generate().public_key()))
    ring.add("timestamp", unknown)
    with pytest.raises(Refused, match="nosuch:key cannot be used"):
        ring.signers("timestamp", [unknown.keyid], 1)


def test_a_keyring_that_others_wrote_or_that_is_broken_is_not_used(tmp_path: Path, base: Base) -> None:
    path = tmp_path / "keys.json"
    good = path.read_text()
    path.write_text(good.replace('"keyid": "', '"keyid": "0', 1))
    with pytest.raises(Unavailable, match="named after another key"):
        Keyring.open(tmp_path)
    path.write_text("{")
    with pytest.raises(Unavailable, match="cannot be read"):
        Keyring.open(tmp_path)
    path.write_text(good)
    path.chmod(0o666)
    with pytest.raises(Refused, match="can be changed by others"):
        Keyring.open(tmp_path)


def test_g82_the_mark_tells_a_backup_from_a_crash(tmp_path: Path) -> None:
    assert read_mark(tmp_path) == Mark()
    write_mark(tmp_path, Mark(confirmed=7, written=8))
    assert read_mark(tmp_path).gap(8) == 0
    assert read_mark(tmp_path).gap(7) == 1, "the publish of 8 crashed: skip it"
    with pytest.raises(Refused, match="restored backup"):
        read_mark(tmp_path).gap(6)
    (tmp_path / "high-water.json").write_text("{}")
    with pytest.raises(Refused, match="nothing is signed"):
        read_mark(tmp_path)
