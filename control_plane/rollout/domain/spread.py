"""What sums per device say: how much devices differ, and each one's own past. A panel of devices stands for all."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.kit.statistics import UnitMoments, unit_moments
from control_plane.rollout.domain.values import ArmSpread, History, Stratum
from control_plane.telemetry.domain import DeviceSum

Points = tuple[list[float], list[float]]


@dataclass(frozen=True, slots=True)
class Arms:
    """Which content is canary and which is control, what is counted, and what rates are per."""

    canary: str
    control: Collection[str]
    unit: str
    kinds: Collection[str]

    def exposure(self, done: DeviceSum) -> float:
        return (done.distance_mm if self.unit == "distance_m" else done.duration_ms) / 1000

    def events(self, done: DeviceSum) -> int:
        return sum(done.counts.get(kind, 0) for kind in self.kinds)


def compared(arms: Arms, sums: Sequence[DeviceSum]) -> list[DeviceSum]:
    """Return what devices did with the canary, and what each did with the last thing it had beside it.

    What it had before that drove better or worse for reasons of its own: as a second unit it would make devices look
    as different as releases are, and as a device's past it would be the wrong one.
    """
    last: dict[str, DeviceSum] = {}
    for done in sums:
        held = last.get(done.device_id)
        if done.content_digest in arms.control and (held is None or _order(done) > _order(held)):
            last[done.device_id] = done
    return [done for done in sums if done.content_digest == arms.canary or _is_of(done, last.get(done.device_id))]


def _order(done: DeviceSum) -> tuple[datetime, str]:
    return done.last_at, done.content_digest


def _is_of(done: DeviceSum, last: DeviceSum | None) -> bool:
    return last is not None and done.content_digest == last.content_digest


def spreads_of(
    arms: Arms, sums: Sequence[DeviceSum], driven: Mapping[Stratum, tuple[float, float]]
) -> tuple[ArmSpread, ...]:
    """Describe both arms of every stratum by its panel, scaled to what the arm has driven in this rollout.

    `driven`: canary and control exposure since the rollout began. A control device of the panel may have driven for
    months, which says much about how it differs, and nothing about how much of it is in this comparison.
    """
    points: dict[Stratum, tuple[Points, Points]] = defaultdict(lambda: (([], []), ([], [])))
    for done in compared(arms, sums):
        events, exposures = points[Stratum(done.site, done.device_class)][done.content_digest != arms.canary]
        events.append(arms.events(done))
        exposures.append(arms.exposure(done))
    return tuple(
        ArmSpread(
            stratum, *(_scaled(unit_moments(*arm), amount) for arm, amount in zip(pair, driven[stratum], strict=True))
        )
        for stratum, pair in sorted(points.items())
        if stratum in driven
    )


def _scaled(panel: UnitMoments, driven: float) -> UnitMoments:
    """Keep how units differ, and let them have driven `driven` together.

    Rates per unit stay as they are, so events scale with exposure; the squares scale with the exposure of each unit and
    with their number, of which only the product is known: a panel of some, each of which drove for longer or shorter.
    """
    if panel.exposure <= 0:
        return panel
    part = min(1.0, driven / panel.exposure)  # a panel of all that drove no more than this is taken as it is
    return UnitMoments(
        panel.units,
        panel.exposure * part,
        panel.events * part,
        panel.exposure_squared * part**2,
        # Chance contributes in proportion, difference by the square: events^2 = frailty part + Poisson part.
        max(panel.events_squared - panel.events, 0.0) * part**2 + panel.events * part,
        panel.events_times_exposure * part**2,
    )


def histories_of(arms: Arms, sums: Sequence[DeviceSum]) -> tuple[History, ...]:
    """Pair what each device did before it switched with what it has done since; who never switched is left out."""
    past: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    since: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    for done in compared(arms, sums):
        side = since if done.content_digest == arms.canary else past
        exposure, events = side[done.device_id]
        side[done.device_id] = (exposure + arms.exposure(done), events + arms.events(done))
    return tuple(
        History(device, *past[device], *since[device]) for device in sorted(since) if device in past and past[device][0]
    )
