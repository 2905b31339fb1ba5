"""What one device should run: the release of the live rollout it falls into, else its way back to the baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.rollout.domain.assign import score
from control_plane.rollout.domain.values import Stratum


@dataclass(frozen=True, slots=True)
class ReleaseRef:
    digest: str
    size_bytes: int
    counter: int
    content_digest: str


@dataclass(frozen=True, slots=True)
class Live:
    """A rollout that offers its release; `limits` are thresholds of its current stage by stratum."""

    rollout_id: str
    release: ReleaseRef
    limits: dict[Stratum, int]
    stage_fraction: float = 1.0
    safe_state: str = ""
    shadow_s: float = 0.0
    site_budget: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """`site_free`: whether the device may be out now as far as its site is concerned; None where no budget is set."""

    release: ReleaseRef
    rollout_id: str | None
    stage_fraction: float = 1.0
    safe_state: str = ""
    shadow_s: float = 0.0
    site_budget: int | None = None
    site_free: bool | None = None


def order_for(
    device_id: str, stratum: Stratum, floor: int, live: Sequence[Live], baseline: Sequence[ReleaseRef]
) -> Order | None:
    """Return what a device should run.

    `baseline` holds the fleet's release and later re-releases of the same content. A device whose counter floor has
    passed the first (it ran something that was withdrawn) takes the first it may: forward to old bytes.
    """
    for rollout in live:
        limit = rollout.limits.get(stratum)
        if limit is not None and score(rollout.rollout_id, device_id) < limit and rollout.release.counter >= floor:
            how = (rollout.stage_fraction, rollout.safe_state, rollout.shadow_s, rollout.site_budget)
            site_free = None if rollout.site_budget is None else False
            return Order(rollout.release, rollout.rollout_id, *how, site_free=site_free)
    for release in sorted(baseline, key=lambda ref: ref.counter):
        if release.counter >= floor:
            return Order(release, None)
    return None
