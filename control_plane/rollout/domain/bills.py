"""What versions cost: each job is paid for once, whoever used it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from control_plane.factory.domain import JobCost


@dataclass(frozen=True, slots=True)
class Bill:
    """The keys of jobs by what they were for; a job may be on several bills, and on several parts of one.

    `gate` says with each job which share of its episodes was weighed; everything else was used as a whole. `runs` are
    those that trained the version.
    """

    data: frozenset[str] = frozenset()
    training: frozenset[str] = frozenset()
    simulation: frozenset[str] = frozenset()
    gate: Mapping[str, float] = field(default_factory=dict)
    episodes: int = 0
    runs: frozenset[str] = frozenset()

    @property
    def shares(self) -> dict[str, float]:
        """Return all its jobs, each once, with the share that was used."""
        return {**self.gate, **dict.fromkeys(self.data | self.training | self.simulation, 1.0)}

    def until(self, at: datetime, costs: Mapping[str, JobCost], others: Collection[str]) -> "Bill":
        """Return what was asked for by `at` for the version's own sake.

        `others` are runs that trained other versions: what they simulated with this one was for those.
        """
        known = {key for key in self.shares if key in costs and costs[key].asked_at <= at}
        own = {key for key in self.simulation & known if costs[key].run_id not in others}
        return replace(
            self,
            data=self.data & known,
            training=self.training & known,
            simulation=frozenset(own),
            gate={key: share for key, share in self.gate.items() if key in known},
        )


@dataclass(frozen=True, slots=True)
class Sum:
    jobs: int = 0
    usd: float = 0.0
    energy_j: float = 0.0
    energy_is_estimate: bool = False

    def per(self, number: float) -> "Sum":
        """Return this for one of `number`; the jobs stay what they are."""
        return Sum(self.jobs, self.usd / number, self.energy_j / number, self.energy_is_estimate)


def whole(keys: Iterable[str]) -> dict[str, float]:
    return dict.fromkeys(keys, 1.0)


def summed(shares: Mapping[str, float], costs: Mapping[str, JobCost]) -> Sum:
    """Add shares of jobs up; a job that is not known costs nothing."""
    found = [(costs[key], share) for key, share in sorted(shares.items()) if key in costs]
    return Sum(
        len(found),
        sum(cost.usd * share for cost, share in found),
        sum(cost.energy_j * share for cost, share in found),
        any(cost.energy_is_estimate for cost, _ in found),
    )


def way_of(
    number: int, at: datetime, bills: Mapping[int, Bill], promoted: Sequence[int], costs: Mapping[str, JobCost]
) -> dict[str, float]:
    """Return what a version took until its promotion at `at`, with those tried in vain since the promotion before."""
    before = max((other for other in promoted if other < number), default=0)
    way = {other: bill for other, bill in bills.items() if before < other <= number}
    shares: dict[str, float] = {}
    for bill in way.values():
        others = frozenset[str]().union(*(each.runs for each in bills.values())) - bill.runs
        for key, share in bill.until(at, costs, others).shares.items():
            shares[key] = max(share, shares.get(key, 0.0))
    return shares
