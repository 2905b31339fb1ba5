"""Where a job runs: the cheapest cluster that fits, by a policy, with the reasons for and against each.

A pure function of what the job needs, what each cluster states, and what the ledger knows of both. Prices, power and
speed are operators' estimates and so is the answer: it says on which figures it stands.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from control_plane.factory.domain.jobs import Profile, cost_of


class Policy(StrEnum):
    """What is to be least: dollars, joules, or seconds until it is done."""

    COST = "cost"
    ENERGY = "energy"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Needs:
    """What one job needs. `expected_s` is how long it takes at speed 1; `deadline_s` from now, None if it has none."""

    cpus: float
    gpus: float
    memory_bytes: int
    expected_s: float
    deadline_s: float | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One cluster as stated and as seen. What is None was not stated, and is taken for enough.

    `cpus`, `gpus`, `memory_bytes` are the most one job may have; `slots` how many jobs run at once; `busy` how many
    wait or run there now; `measured_s` how long jobs of this kind took there.
    """

    name: str
    profile: Profile
    cpus: float | None = None
    gpus: float = 0.0
    memory_bytes: int | None = None
    slots: int | None = None
    speed: float = 1.0
    queue_s: float = 0.0
    runs_images: bool = True
    busy: int = 0
    measured_s: float | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """A cluster weighed: what the job would cost there, and why not if it does not fit."""

    cluster: str
    seconds: float
    usd: float
    energy_j: float
    misfit: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """The choice: `cluster` is None if nothing fits. `because` is a sentence for people."""

    cluster: str | None
    because: str
    options: tuple[Option, ...]


def place(needs: Needs, places: Iterable[Place], policy: Policy) -> Placement:
    """Choose the cluster that is least by the policy among those that fit and meet the deadline.

    Ties go to the sooner, then to the name, so the same question has the same answer.
    """
    options = tuple(sorted((weigh(needs, each) for each in places), key=lambda option: _rank(option, policy)))
    fitting = [option for option in options if not option.misfit]
    if not fitting:
        why = "; ".join(f"{option.cluster}: {option.misfit}" for option in options) or "no cluster was offered"
        return Placement(None, f"no cluster fits: {why}", options)
    return Placement(fitting[0].cluster, _sentence(fitting, len(options), needs, policy), options)


def weigh(needs: Needs, place: Place) -> Option:
    """Estimate a job on one cluster.

    With 2 slots and 4 busy a job of 100 s at speed 2 waits for 2 rounds of 50 s, and ends after 150 s.
    """
    runs_s = place.measured_s if place.measured_s is not None else needs.expected_s / place.speed
    rounds = math.floor(place.busy / place.slots) if place.slots else 0
    seconds = place.queue_s + rounds * runs_s + runs_s
    cost = cost_of(place.profile, runs_s, runs_s * needs.cpus, None, runs_s * needs.gpus)
    return Option(place.name, seconds, cost.usd, cost.energy_j, _misfit(needs, place, seconds))


def expected_s(places: Iterable[Place]) -> float | None:
    """Return how long a job takes at speed 1 by what was measured anywhere, None if nothing was.

    Without it a cluster that has never run such a job would be judged by the job's time-out, and never be chosen.
    """
    measured = [place.measured_s * place.speed for place in places if place.measured_s is not None]
    return fmean(measured) if measured else None


def _misfit(needs: Needs, place: Place, seconds: float) -> str:
    if needs.image and not place.runs_images:
        return f"it runs no images, {needs.image} is asked for"
    if place.cpus is not None and needs.cpus > place.cpus:
        return f"it gives a job {place.cpus:g} CPUs, {needs.cpus:g} are needed"
    if needs.gpus > place.gpus:
        return f"it gives a job {place.gpus:g} GPUs, {needs.gpus:g} are needed"
    if place.memory_bytes is not None and needs.memory_bytes > place.memory_bytes:
        return f"it gives a job {_gib(place.memory_bytes)} of memory, {_gib(needs.memory_bytes)} are needed"
    if needs.deadline_s is not None and seconds > needs.deadline_s:
        return f"it would be done after {seconds:.0f} s, the deadline is {needs.deadline_s:g} s"
    return ""


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.1f} GiB"


def _rank(option: Option, policy: Policy) -> tuple[bool, float, float, str]:
    least = {Policy.COST: option.usd, Policy.ENERGY: option.energy_j, Policy.DEADLINE: option.seconds}[policy]
    return bool(option.misfit), least, option.seconds, option.cluster


def _sentence(fitting: list[Option], of: int, needs: Needs, policy: Policy) -> str:
    chosen = fitting[0]
    figures = f"{chosen.usd:.4g} USD, {chosen.energy_j:.4g} J, {chosen.seconds:.0f} s"
    least = {Policy.COST: "cheapest", Policy.ENERGY: "most frugal", Policy.DEADLINE: "soonest"}[policy]
    among = f"of {len(fitting)} that fit" if len(fitting) > 1 else "only one that fits"
    due = "" if needs.deadline_s is None else f", due in {needs.deadline_s:g} s"
    verb = f"is the {least} {among}" if len(fitting) > 1 else f"is the {among}"
    return f"{chosen.cluster} {verb} ({of} looked at{due}): {figures} expected"
