"""What one device should run: the release of the live rollout it falls into, else its way back to the baseline.

Where two rollouts meet on one device the one with the higher counter wins: it is the newer release. A rollout that is
being taken back comes after every live one, and only for devices that run its release already and whose turn to go back
it is not yet: whoever has not begun does not begin.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from control_plane.rollout.domain.assign import EVERYONE, return_score, score
from control_plane.rollout.domain.values import Stratum
from control_plane.rollout.domain.windows import Window


@dataclass(frozen=True, slots=True)
class ReleaseRef:
    digest: str
    size_bytes: int
    counter: int
    content_digest: str


@dataclass(frozen=True, slots=True)
class Live:
    """A rollout that offers its release; `limits` are thresholds of its current stage by stratum.

    `returning`: None while it offers, else the share of devices that are to be back by now.
    """

    rollout_id: str
    release: ReleaseRef
    limits: dict[Stratum, int]
    stage_fraction: float = 1.0
    safe_state: str = ""
    shadow_s: float = 0.0
    site_budget: int | None = None
    returning: float | None = None
    cell_label: str = "cell"
    cell_budget: int | None = None
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """`site_free`: whether the device may be out now as far as its site is concerned; None where nothing limits it."""

    release: ReleaseRef
    rollout_id: str | None
    stage_fraction: float = 1.0
    safe_state: str = ""
    shadow_s: float = 0.0
    site_budget: int | None = None
    site_free: bool | None = None
    cell_label: str = "cell"
    cell_budget: int | None = None
    windows: tuple[Window, ...] = ()

    @property
    def limited(self) -> bool:
        """Whether somebody must say when this device may switch."""
        return self.site_budget is not None or self.cell_budget is not None or bool(self.windows)


def order_for(
    device_id: str,
    stratum: Stratum,
    floor: int,
    live: Sequence[Live],
    baseline: Sequence[ReleaseRef],
    running: str | None = None,
) -> Order | None:
    """Return what a device should run; `running` is the content it says it runs.

    `baseline` holds the fleet's release and later re-releases of the same content. A device whose counter floor has
    passed the first (it ran something that was withdrawn) takes the first it may: forward to old bytes.
    """
    offering = sorted((rollout for rollout in live if rollout.returning is None), key=_newest)
    going_back = sorted((rollout for rollout in live if rollout.returning is not None), key=_newest)
    for rollout in offering:
        if _reaches(rollout, device_id, stratum) and rollout.release.counter >= floor:
            return _order(rollout)
    for rollout in going_back:
        if _keeps(rollout, device_id, stratum, running) and rollout.release.counter >= floor:
            return _order(rollout)
    for release in sorted(baseline, key=lambda ref: ref.counter):
        if release.counter >= floor:
            return Order(release, None)
    return None


def _newest(rollout: Live) -> int:
    return -rollout.release.counter


def _reaches(rollout: Live, device_id: str, stratum: Stratum) -> bool:
    limit = rollout.limits.get(stratum)
    return limit is not None and score(rollout.rollout_id, device_id) < limit


def _keeps(rollout: Live, device_id: str, stratum: Stratum, running: str | None) -> bool:
    """Say whether a device goes on with a release that is being taken back, until its turn comes."""
    if running != rollout.release.content_digest or not _reaches(rollout, device_id, stratum):
        return False
    return return_score(rollout.rollout_id, device_id) >= int((rollout.returning or 0.0) * EVERYONE)


def _order(rollout: Live) -> Order:
    order = Order(
        rollout.release,
        rollout.rollout_id,
        rollout.stage_fraction,
        rollout.safe_state,
        rollout.shadow_s,
        rollout.site_budget,
        cell_label=rollout.cell_label,
        cell_budget=rollout.cell_budget,
        windows=rollout.windows,
    )
    # Until somebody has looked, a device that is limited does not switch.
    return replace(order, site_free=False) if order.limited else order
