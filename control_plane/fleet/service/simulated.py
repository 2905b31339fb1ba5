"""Devices that are only made up, for rehearsals and benchmarks: rows like any other, and labelled as what they are."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from agents.protocol import v1 as wire
from control_plane.audit import service as audit
from control_plane.fleet import store
from control_plane.kit.db import Session
from control_plane.kit.errors import Refused

ACTOR = "simulate"
_DIGEST = "d" * 64
ACTIVE = wire.ActiveRelease(release_digest=_DIGEST, content_digest=_DIGEST, counter=7)
REPORT = wire.DeploymentReport(release_digest=_DIGEST, counter=7, phase=wire.DeploymentPhase.COMMITTED)
SAYS = wire.CheckIn(
    boot_id="boot",
    seq=0,
    nonce="0" * 32,
    sent_at=datetime(2026, 1, 1, tzinfo=UTC),
    agent_version="0.1.0",
    active=ACTIVE,
    deployment=REPORT,
    counter_floor=7,
    spool={"windows": 0, "events": 0, "bytes": 4096, "outbox_files": 0, "outbox_bytes": 0},
    platform={"machine": "aarch64", "kernel": "5.15.148-tegra", "cores": 8, "memory_mb": 15655},
)
"""What a simulated device says of itself: a quiet robot that runs a release nobody made."""


class MadeUp(NamedTuple):
    """A simulated device that really speaks: it has a key, so it can have a certificate."""

    number: int
    public_key_pem: str
    key_sha256: str


def simulated_id(number: int) -> str:
    return f"sim_{number:08d}"


def simulated_boot(number: int) -> str:
    return f"boot-{simulated_id(number)}"


async def must_be_only_simulated(session: Session) -> None:
    """Refuse to mix made-up devices with real ones, who would be counted with them.

    Raises:
        Refused: there are devices that are not simulated.
    """
    real = await store.count_real(session)
    if real:
        raise Refused(
            f"this installation has {real} devices that are not simulated; give --yes to add simulated ones to them",
            code="real_devices",
        )


async def add_simulated(
    session: Session, numbers: range, speakers: Sequence[MadeUp], classes: Sequence[str], sites: Sequence[str]
) -> None:
    """Add simulated devices by number, those that are there stay; only speakers have keys that exist."""
    for name in classes:
        await store.put_class(session, name, {"title": f"{name} (simulated)", "facts": {"simulated": True}})
    await store.add_simulated(session, numbers, classes, sites)
    if speakers:
        said = {"agent_version": SAYS.agent_version, "counter": SAYS.counter_floor}
        said |= {"release": ACTIVE.release_digest, "content": ACTIVE.content_digest}
        keys = [(simulated_id(one.number), one.public_key_pem, one.key_sha256) for one in speakers]
        await store.give_keys(session, keys, said, REPORT.model_dump_json())
    await audit.record(
        session, ACTOR, "device.simulate", ACTOR, "simulated devices", first=numbers.start, devices=len(numbers)
    )


async def remove_simulated(session: Session) -> int:
    """Take out every simulated device and what it left behind; return how many there were."""
    removed = await store.remove_simulated(session)
    await audit.record(session, ACTOR, "device.simulate_remove", ACTOR, "simulated devices removed", devices=removed)
    return removed
