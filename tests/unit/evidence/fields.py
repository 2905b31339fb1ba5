"""Fields in which telemetry comes late, and rules of others on the very same data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import stats

from control_plane.kit.statistics import unit_moments
from control_plane.rollout.domain import ArmSpread, Evidence, History, Ledger, Plan, Stratum, weigh
from tests.unit.evidence.worlds import Arm

Counts = np.ndarray


@dataclass(frozen=True)
class Lateness:
    """A window comes `mean` looks late (geometric); a canary device is `canary` times as slow; some are offline."""

    mean: float = 0.0
    canary: float = 1.0
    offline_share: float = 0.0
    offline_looks: int = 0


@dataclass(frozen=True)
class Driven:
    """One drawn rollout: events by (look, device) of each stratum, and the look at which each window has arrived."""

    arms: tuple[Arm, ...]
    exposure: float
    counts: tuple[Counts, ...]
    arrived: tuple[Counts, ...]

    def seen(self, look: int) -> Iterator[tuple[Arm, Counts, Counts]]:
        """Give events and exposure by (look, device), as far as they are here."""
        for arm, counts, arrived in zip(self.arms, self.counts, self.arrived, strict=True):
            here = arrived <= look
            yield arm, counts * here, here * self.exposure

    def totals(self, look: int) -> tuple[float, float, int, int]:
        """Give canary and control exposure and events, all strata thrown together: what simple rules look at."""
        sums = np.zeros(4)
        for arm, events, exposure in self.seen(look):
            n = arm.canaries
            sums += exposure[:, :n].sum(), exposure[:, n:].sum(), events[:, :n].sum(), events[:, n:].sum()
        return float(sums[0]), float(sums[1]), int(sums[2]), int(sums[3])

    def ledger(self, look: int) -> Ledger:
        buckets, strata, exposures, counts = [], [], [], []
        names = tuple(sorted(arm.stratum for arm in self.arms))
        for arm, events, exposure in self.seen(look):
            n = arm.canaries
            for bucket in np.flatnonzero(exposure.sum(axis=1)):
                buckets.append(int(bucket))
                strata.append(names.index(arm.stratum))
                exposures.append((exposure[bucket, :n].sum(), exposure[bucket, n:].sum()))
                hits, misses = events[bucket, :n].sum(), events[bucket, n:].sum()
                counts.append([[hits, 0], [misses, 0]])
        return Ledger(
            names,
            np.asarray(buckets, dtype=np.int64),
            np.asarray(strata, dtype=np.int64),
            np.asarray(exposures, dtype=np.float64).reshape(-1, 2),
            np.asarray(counts, dtype=np.int64).reshape(-1, 2, 2),
        )

    def spreads(self, look: int) -> tuple[ArmSpread, ...]:
        found = []
        for arm, events, exposure in self.seen(look):
            n, sums, amounts = arm.canaries, events.sum(axis=0), exposure.sum(axis=0)
            pair = (unit_moments(sums[:n], amounts[:n]), unit_moments(sums[n:], amounts[n:]))
            found.append(ArmSpread(arm.stratum, *pair))
        return tuple(found)

    def weigh(self, plan: Plan, look: int) -> Evidence:
        return weigh(plan, self.ledger(look), self.spreads(look))


@dataclass(frozen=True)
class Field:
    """`exposure` is per device and look; `frailty` the variance of the devices' own rates."""

    arms: tuple[Arm, ...]
    looks: int
    exposure: float
    frailty: float = 0.0
    lateness: Lateness = Lateness()

    def drive(self, rng: Generator, ratio: float) -> Driven:
        drawn = [self._arm(rng, arm, ratio) for arm in self.arms]
        return Driven(self.arms, self.exposure, tuple(c for c, _ in drawn), tuple(a for _, a in drawn))

    def _arm(self, rng: Generator, arm: Arm, ratio: float) -> tuple[Counts, Counts]:
        devices = arm.canaries + arm.controls
        factor = rng.gamma(1 / self.frailty, self.frailty, devices) if self.frailty else np.ones(devices)
        mean = arm.rate * self.exposure * factor
        mean[: arm.canaries] *= ratio
        late = self.lateness
        slow = np.full(devices, late.mean)
        slow[: arm.canaries] *= late.canary
        delays = rng.geometric(1 / (1 + slow), (self.looks, devices)) - 1
        delays += late.offline_looks * (rng.random(devices) < late.offline_share)
        return rng.poisson(mean, (self.looks, devices)), np.arange(self.looks)[:, None] + delays


def ever_halted(plan: Plan, driven: Driven, looks: int) -> int | None:
    """Return the first look at which the release would be halted: every look decides for good."""
    for look in range(looks):
        if any(test.crossed for test in driven.weigh(plan, look).harms):
            return look
    return None


def ever_promoted(plan: Plan, driven: Driven, looks: int) -> bool:
    return any(any(test.crossed for test in driven.weigh(plan, look).safes) for look in range(looks))


# --- what others do ---------------------------------------------------------------------------------------------------


Rule = Callable[[Driven, int, float], bool]


def fixed_ratio(driven: Driven, look: int, _usual: float) -> bool:
    """Half as many again as control, with at least three events: a threshold on the estimate."""
    canary, control, hits, misses = driven.totals(look)
    return hits >= 3 and canary > 0 and control > 0 and hits / canary > 1.5 * misses / control


def twice_usual(driven: Driven, look: int, usual: float) -> bool:
    """Twice the fleet's usual rate: a threshold against history."""
    canary, _, hits, _ = driven.totals(look)
    return canary > 0 and hits / canary > 2 * usual


def z_test(driven: Driven, look: int, _usual: float) -> bool:
    """A one-sided z-test at five percent."""
    canary, control, hits, misses = driven.totals(look)
    events = hits + misses
    if not events or not canary or not control:
        return False
    share = canary / (canary + control)
    return (hits - events * share) / np.sqrt(events * share * (1 - share)) > stats.norm.ppf(0.95)


OTHERS: dict[str, tuple[Rule, bool]] = {
    "canary over 1.5 times control, at every look": (fixed_ratio, True),
    "over twice the usual rate, at every look": (twice_usual, True),
    "z-test at 5 %, at every look": (z_test, True),
    "z-test at 5 %, once at the end": (z_test, False),
}


def other_halts(name: str, driven: Driven, looks: int, usual: float) -> int | None:
    """Return the first look at which another rule halts."""
    rule, every_look = OTHERS[name]
    for look in range(looks) if every_look else (looks - 1,):
        if rule(driven, look, usual):
            return look
    return None


# --- a device's own past ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Past:
    """Devices that drove `before` looks with what they have, and `since` with the candidate; nobody is left out."""

    devices: int
    rate: float
    before: float
    looks: int
    frailty: float = 0.0

    def histories(self, rng: Generator, ratio: float) -> Iterator[tuple[History, ...]]:
        """Give what is known after every look."""
        factor = rng.gamma(1 / self.frailty, self.frailty, self.devices) if self.frailty else np.ones(self.devices)
        past = rng.poisson(self.rate * self.before * factor)
        events = np.zeros(self.devices, dtype=np.int64)
        for look in range(1, self.looks + 1):
            events = events + rng.poisson(self.rate * ratio * factor)
            yield tuple(
                History(f"d{i:03}", self.before, int(past[i]), float(look), int(events[i])) for i in range(self.devices)
            )


def history_halts(plan: Plan, past: Past, rng: Generator, ratio: float) -> bool:
    return any(any(test.crossed for test in weigh(plan, (), (), known).harms) for known in past.histories(rng, ratio))


HALL, ANNEX, COLD = (Stratum(site, "sim-amr") for site in ("hall", "annex", "cold_store"))
