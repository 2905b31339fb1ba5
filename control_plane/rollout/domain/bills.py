"""What versions cost: each job is paid for once, whoever used it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from control_plane.factory.domain import JobCost


@dataclass(frozen=True, slots=True)
class Bill:
    """The keys of jobs by what they were for; a job may be on several bills, and on several parts of one."""

    data: frozenset[str] = frozenset()
    training: frozenset[str] = frozenset()
    simulation: frozenset[str] = frozenset()
    gate: frozenset[str] = frozenset()
    episodes: int = 0

    @property
    def jobs(self) -> frozenset[str]:
        return self.data | self.training | self.simulation | self.gate


@dataclass(frozen=True, slots=True)
class Sum:
    jobs: int = 0
    usd: float = 0.0
    energy_j: float = 0.0
    energy_is_estimate: bool = False

    def per(self, number: float) -> "Sum":
        """Return this for one of `number`; the jobs stay what they are."""
        return Sum(self.jobs, self.usd / number, self.energy_j / number, self.energy_is_estimate)


def summed(keys: Iterable[str], costs: Mapping[str, JobCost]) -> Sum:
    """Add jobs up, each once; one that is not known costs nothing."""
    found = [costs[key] for key in sorted(set(keys)) if key in costs]
    return Sum(
        len(found),
        sum(cost.usd for cost in found),
        sum(cost.energy_j for cost in found),
        any(cost.energy_is_estimate for cost in found),
    )


def way_of(number: int, bills: Mapping[int, Bill], promoted: Sequence[int]) -> frozenset[str]:
    """Return the jobs of a promoted version and of those that were tried in vain since the one promoted before it."""
    before = max((other for other in promoted if other < number), default=0)
    return frozenset[str]().union(*(bill.jobs for other, bill in bills.items() if before < other <= number))
