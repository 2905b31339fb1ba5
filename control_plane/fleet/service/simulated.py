"""Devices that are only made up, for rehearsals and benchmarks: rows like any other, and labelled as what they are."""

from collections.abc import Sequence
from typing import NamedTuple

from control_plane.audit import service as audit
from control_plane.fleet import store
from control_plane.kit.db import Session
from control_plane.kit.errors import Refused

ACTOR = "simulate"


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
        await store.give_keys(session, [(simulated_id(one.number), *one[1:]) for one in speakers])
    await audit.record(
        session, ACTOR, "device.simulate", ACTOR, "simulated devices", first=numbers.start, devices=len(numbers)
    )


async def remove_simulated(session: Session) -> int:
    """Take out every simulated device and what it left behind; return how many there were."""
    removed = await store.remove_simulated(session)
    await audit.record(session, ACTOR, "device.simulate_remove", ACTOR, "simulated devices removed", devices=removed)
    return removed
