"""Who holds stolen keys, the object store and the network, and what they try with them.

Each thief is stronger than the claim asks for: whatever else was stolen, the director orders what he likes, and but for
the first he holds every key that the control plane keeps online. Keys he lacks he replaces by his own.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from securesystemslib.signer import CryptoSigner

from agents.protocol.v1 import Envelope, ReleaseManifest, canonical_json, sha256_hex
from agents.protocol.v1.admission import bundle_bytes
from agents.protocol.v1.release import ReleaseOrder
from agents.protocol.v1.statement import PROVENANCE, TEST_RESULT, Result
from agents.protocol.v1.trust import POLICY_PATH, Revocations, attestations_path, release_path
from tests.agent.bundles import Built, files, release
from tests.support.attacks import Device, HostileServer
from tests.support.trust import Ring, approved, gate_result, provenance, sealed, vouched

ONLINE: Final = frozenset({"releases", "snapshot", "timestamp", "revocations", "director"})
THEFTS: Final[dict[str, frozenset[str]]] = {
    "director": frozenset({"director"}),
    "releases": ONLINE,
    "gate": ONLINE | {"gate"},
    "trainer": ONLINE | {"trainer"},
    "approver": ONLINE | {"ada"},
}
Signing = Callable[[Ring, ReleaseManifest], list[Envelope]]


@dataclass
class World:
    """What was signed before the theft; all but `older` and `running` lack something, or were taken back."""

    server: HostileServer
    device: Device
    releases: dict[str, Built]
    first_files: dict[str, bytes]

    @classmethod
    async def honest(cls, server: HostileServer, device: Device) -> "World":
        older = release(server, 1, files(1.0))
        await device.installs(older)
        first_files = dict(server.tuf.files)
        running = release(server, 2, files(2.0))
        await device.installs(running)
        made = {name: _cut(server, 3 + number, name) for number, name in enumerate(_SIGNED)}
        server.revocations = Revocations(release_digests=(made["revoked"].order.release_digest,))
        server.publish()
        server.order = None
        await device.keeper.once()
        return cls(server, device, {"older": older, "running": running, **made}, first_files)


def _cut(server: HostileServer, counter: int, name: str) -> Built:
    classes = ["cart"] if name == "other_class" else ["test"]
    built = release(server, counter, files(float(counter)), device_classes=classes)
    digest = built.order.release_digest
    server.vouches[digest] = _SIGNED[name](server.ring, manifest_of(server, digest))
    server.publish()
    return built


def manifest_of(server: HostileServer, digest: str) -> ReleaseManifest:
    return ReleaseManifest.model_validate_json(server.releases[digest])


def _narrow(ring: Ring, manifest: ReleaseManifest) -> list[Envelope]:
    people = (approved(ring, manifest, name, widest_stage=0.1) for name in ("ada", "bo"))
    return [*vouched(ring, manifest, (), device_class="test"), *people]


def _failed(ring: Ring, manifest: ReleaseManifest) -> list[Envelope]:
    failed = ("test/nominal non_inferior",)
    said = gate_result(Result.FAILED, device_class="test", failedTests=failed, passedTests=())
    return [
        sealed(PROVENANCE, manifest.content_digest, provenance(), ring.trainer),
        sealed(TEST_RESULT, manifest.content_digest, said, ring.gate),
    ]


_SIGNED: Final[dict[str, Signing]] = {
    "other_class": lambda ring, manifest: vouched(ring, manifest, device_class="cart"),
    "narrow": _narrow,
    "failed": _failed,
    "unapproved": lambda ring, manifest: vouched(ring, manifest, (), device_class="test"),
    "revoked": lambda ring, manifest: vouched(ring, manifest, device_class="test"),
}


class Thief:
    """While he is `at_work` he is the server."""

    def __init__(self, world: World, stolen: frozenset[str]) -> None:
        self.world, self.server, self.stolen, self.counter = world, world.server, stolen, 100
        real, own = world.server.ring, Ring()
        roles = {role: getattr(real if role in stolen else own, role) for role in ("director", "gate", "trainer")}
        people = {name: (real if name in stolen else own).people[name] for name in own.people}
        self.his = replace(own, **roles, people=people)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        server, tuf = self.server, self.server.tuf
        ring, signers, known = server.ring, tuf.signers, dict(tuf.files)
        listed = {role: dict(paths) for role, paths in tuf.targets.items()}
        vouches, revocations, offline = dict(server.vouches), server.revocations, tuf.versions["targets"]
        server.ring = self.his
        tuf.signers = {
            role: held if role in self.stolen else [CryptoSigner.generate_ed25519()] for role, held in signers.items()
        }
        try:
            self.publishes()
            yield
        finally:
            # His online versions stay: below them nothing of his would be looked at any more.
            tuf.versions["targets"] = offline
            server.ring, tuf.signers, tuf.files, tuf.targets = ring, signers, known, listed
            server.vouches, server.revocations, server.order = vouches, revocations, None

    def publishes(self) -> None:
        """Sign what is listed, as far as his keys go; without them the honest metadata stays."""
        if self.stolen >= ONLINE:
            self.server.tuf.publish("releases", "revocations")

    def lists(self, data: bytes, envelopes: list[Envelope]) -> ReleaseOrder:
        """List a release and have it ordered."""
        digest, bundle = self.server.put(data), bundle_bytes(envelopes)
        self.server.put(bundle)
        self.server.releases[digest] = data
        self.server.tuf.targets["releases"] |= {release_path(digest): data, attestations_path(digest): bundle}
        self.publishes()
        counter = ReleaseManifest.model_validate_json(data).counter
        return ReleaseOrder(release_digest=digest, size_bytes=len(data), counter=counter, rollout_id="r-1")

    def cuts(self, like: str, content: dict[str, bytes] | None = None) -> bytes:
        """Return a release under a new counter, of a known content or of his own model."""
        self.counter += 1
        known = manifest_of(self.server, self.world.releases[like].order.release_digest)
        plain = known.model_dump(mode="json", by_alias=True) | {"counter": self.counter}
        if content is not None:
            described = [
                {
                    "path": path,
                    "size_bytes": len(data),
                    "sha256": self.server.put(data),
                    "media_type": "x",
                    "role": "model",
                }
                for path, data in content.items()
            ]
            plain["content"] |= {"files": described}
            plain["content_digest"] = sha256_hex(canonical_json(plain["content"]))
        return canonical_json(plain)

    def everything(self, data: bytes) -> list[Envelope]:
        """Sign for all, with the keys he stole and with his own."""
        return vouched(self.his, ReleaseManifest.model_validate_json(data), ("ada", "bo", "cy"), device_class="test")

    def honestly(self, name: str) -> list[Envelope]:
        return list(self.server.vouches[self.world.releases[name].order.release_digest])


def arbitrary(thief: Thief) -> ReleaseOrder:
    data = thief.cuts("running", files(666.0 + thief.counter))
    return thief.lists(data, thief.everything(data))


def arbitrary_among_honest_words(thief: Thief) -> ReleaseOrder:
    """Show the attestations of what runs for a model of his own."""
    data = thief.cuts("running", files(777.0 + thief.counter))
    return thief.lists(data, thief.honestly("running") + thief.everything(data))


def own_policy(thief: Thief) -> ReleaseOrder:
    """Name himself in a trust policy that the offline keys have not signed."""
    order = arbitrary(thief)
    policy = thief.his.policy(version=9, media_types=("x",)).model_dump_json(by_alias=True).encode()
    thief.server.put(policy)
    thief.server.tuf.targets["targets"][POLICY_PATH] = policy
    thief.server.tuf.publish()
    return order


def policy_among_releases(thief: Thief) -> ReleaseOrder:
    policy = thief.his.policy(version=9, media_types=("x",)).model_dump_json(by_alias=True).encode()
    thief.server.put(policy)
    thief.server.tuf.targets["releases"][POLICY_PATH] = policy
    return arbitrary(thief)


def downgrade(thief: Thief) -> ReleaseOrder:
    return thief.world.releases["older"].order


def downgrade_under_a_new_counter(thief: Thief) -> ReleaseOrder:
    return downgrade(thief).model_copy(update={"counter": 1000})


def old_content_in_a_new_release(thief: Thief) -> ReleaseOrder:
    data = thief.cuts("older")
    return thief.lists(data, thief.honestly("older") + thief.everything(data))


def for_another_class(thief: Thief) -> ReleaseOrder:
    return _with_his_words(thief, "other_class")


def beyond_its_widest_stage(thief: Thief) -> ReleaseOrder:
    return thief.world.releases["narrow"].order.model_copy(update={"stage_fraction": 1.0})


def in_a_stage_that_nobody_names(thief: Thief) -> ReleaseOrder:
    return thief.world.releases["narrow"].order.model_copy(update={"stage_fraction": None})


def that_failed_the_gate(thief: Thief) -> ReleaseOrder:
    return _with_his_words(thief, "failed")


def that_nobody_approved(thief: Thief) -> ReleaseOrder:
    return _with_his_words(thief, "unapproved")


def that_was_revoked(thief: Thief) -> ReleaseOrder:
    """Publish revocations again, without it."""
    thief.server.tuf.targets["revocations"] = {}
    thief.publishes()
    return thief.world.releases["revoked"].order


def old_metadata(thief: Thief) -> ReleaseOrder:
    thief.server.tuf.files = dict(thief.world.first_files)
    return _with_his_words(thief, "unapproved", listing=False)


def old_metadata_to_a_wiped_cache(thief: Thief) -> ReleaseOrder:
    shutil.rmtree(thief.world.device.anchor.cache)
    return old_metadata(thief)


def _with_his_words(thief: Thief, name: str, *, listing: bool = True) -> ReleaseOrder:
    order = thief.world.releases[name].order
    data = thief.server.releases[order.release_digest]
    if listing:
        thief.lists(data, thief.honestly(name) + thief.everything(data))
    return order


_ATTEMPTS: Final = (
    arbitrary,
    arbitrary_among_honest_words,
    policy_among_releases,
    downgrade,
    downgrade_under_a_new_counter,
    old_content_in_a_new_release,
    for_another_class,
    beyond_its_widest_stage,
    in_a_stage_that_nobody_names,
    that_failed_the_gate,
    that_nobody_approved,
    that_was_revoked,
    old_metadata,
    old_metadata_to_a_wiped_cache,
    own_policy,
)
ATTEMPTS: Final[dict[str, Callable[[Thief], ReleaseOrder]]] = {each.__name__: each for each in _ATTEMPTS}


async def tries(thief: Thief, name: str) -> list[str]:
    """Let the thief try; return the reasons that the device gave. AssertionError: he got in."""
    device = thief.world.device
    with thief.at_work():
        thief.server.order = ATTEMPTS[name](thief)
        await device.withstands(rounds=3)
        assert device.loop.state.floor == 2
    return sorted(device.said)


def after_the_theft(server: HostileServer) -> None:
    """Do what the owner does: new keys for all that was online, named by the offline ones."""
    for role in ("timestamp", "snapshot", "releases", "revocations"):
        server.tuf.signers[role] = [CryptoSigner.generate_ed25519()]
    fresh = Ring()
    server.ring = replace(fresh, people=server.ring.people)
    server.policy = {"version": 2}
    server.tuf.publish_root()
    server.publish()
