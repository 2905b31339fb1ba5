"""See what speaks against a release before it goes out."""

from collections.abc import Sequence

from control_plane.fleet import service as fleet
from control_plane.kit.db import Session
from control_plane.registry import service as registry
from control_plane.registry.schemas import ReleaseItem
from control_plane.rollout import store
from control_plane.rollout.domain import Chosen, Halted, doubts_of
from control_plane.rollout.schemas import DoubtItem, DoubtsItem


async def doubts(
    session: Session, release: ReleaseItem, device_classes: Sequence[str], sites: Sequence[str] | None
) -> DoubtsItem:
    """Say which devices would refuse a release or run it already, and which rollouts of its content were halted."""
    refusing, all_counted = await _refusing(session, release.counter, device_classes, sites)
    halted = [
        Halted(line["id"], line["release"] == release.digest, line["at"], line["because"])
        for line in await store.halted(session, release.content_digest)
    ]
    seen = Chosen(
        counter=release.counter,
        devices=sum(stratum.devices for stratum in await fleet.strata(session, device_classes, sites)),
        refusing=refusing,
        all_counted=all_counted,
        running=await fleet.running(session, release.content_digest, device_classes, sites),
        halted=halted,
    )
    return DoubtsItem(
        counter=seen.counter,
        devices=seen.devices,
        refusing=seen.refusing,
        all_counted=seen.all_counted,
        running=seen.running,
        items=[DoubtItem(words=doubt.words, rollout_id=doubt.rollout_id) for doubt in doubts_of(seen)],
    )


async def _refusing(
    session: Session, counter: int, device_classes: Sequence[str], sites: Sequence[str] | None
) -> tuple[int, bool]:
    """Count devices whose floor is above a counter; there is none to look for where no release has a higher one."""
    if counter >= await registry.highest_counter(session, device_classes):
        return 0, True
    return await fleet.floors_above(session, counter, device_classes, sites)
