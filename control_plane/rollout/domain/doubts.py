"""What speaks against a release before it goes out: who would refuse it, who runs it, and what came of it before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Halted:
    """An earlier rollout of the same content that was halted after it had begun."""

    rollout_id: str
    same_release: bool
    at: datetime
    because: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """A release and the chosen devices; `refusing` is a lower bound where not all were counted."""

    counter: int
    devices: int
    refusing: int
    all_counted: bool
    running: int
    halted: Sequence[Halted]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A sentence for people; `rollout_id` where it is about a rollout."""

    words: str
    rollout_id: str | None = None


def doubts_of(seen: Chosen) -> Iterator[Doubt]:
    """Say what speaks against rolling a release out, the gravest first."""
    for each in seen.halted:
        what = "this release" if each.same_release else "another release of the same content"
        yield Doubt(f"{what} was halted before, on {each.at:%Y-%m-%d %H:%M} UTC: {each.because}", each.rollout_id)
    if seen.refusing:
        number = f"{seen.refusing:,}" if seen.all_counted else f"at least {seen.refusing:,}"
        yield Doubt(
            f"{number} of {_devices(seen.devices)} would refuse it: its counter is {seen.counter}, and they take none "
            f"below the highest they have run; release the same content again for a counter they take"
        )
    if seen.running:
        yield Doubt(f"{seen.running:,} of {_devices(seen.devices)} run this content already")


def _devices(number: int) -> str:
    return "1 device" if number == 1 else f"{number:,} devices"
