"""Windows added up: by cell for evidence, by device for how much devices differ.

Amounts are whole millimetres, milliseconds and millijoules, so that a sum is the same to the last bit in whatever order
its windows arrive.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple, Protocol, TypeVar

from control_plane.telemetry.domain.arrivals import CLOCK_AHEAD

LATEST_ARRIVAL = timedelta(days=30)
"""Windows that ended longer ago are stored and counted in totals, but in no cell.

Evidence of that time is decided upon, and its cells are merged into coarser ones only after they cannot change.
"""
KINDS_MOST = 200
AMOUNT_MOST = 9 * 10**18
PANEL_BITS = 32


class Measured(Protocol):
    """What is added up of a window."""

    @property
    def content_digest(self) -> str: ...
    @property
    def ended_at(self) -> datetime: ...
    @property
    def distance_m(self) -> float: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def decisions(self) -> int: ...
    @property
    def energy_j(self) -> float | None: ...
    @property
    def counts(self) -> Mapping[str, int]: ...


@dataclass(slots=True)
class Tally:
    """A sum of windows; `energy_mj` is None while no window says any."""

    first_at: datetime
    last_at: datetime
    distance_mm: int = 0
    duration_ms: int = 0
    decisions: int = 0
    energy_mj: int | None = None
    windows: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        self.first_at, self.last_at = min(self.first_at, other.first_at), max(self.last_at, other.last_at)
        self.distance_mm += other.distance_mm
        self.duration_ms += other.duration_ms
        self.decisions += other.decisions
        self.windows += other.windows
        if other.energy_mj is not None:
            self.energy_mj = (self.energy_mj or 0) + other.energy_mj
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count


class CellLine(NamedTuple):
    """One cell as it stands: absolute values, which replace what a reader knew of it before."""

    site: str
    device_class: str
    content_digest: str
    starts_at: datetime
    distance_mm: int
    duration_ms: int
    windows: int
    counts: dict[str, int]
    first_window_at: datetime
    width_s: int


class DeviceSum(NamedTuple):
    device_id: str
    site: str
    device_class: str
    content_digest: str
    distance_mm: int
    duration_ms: int
    windows: int
    counts: dict[str, int]
    first_at: datetime
    last_at: datetime


class Place(NamedTuple):
    """Whose exposure it is; sums are written in the order of these, so that two writers cannot wait for each other."""

    device_class: str
    site: str
    content_digest: str


Key = TypeVar("Key")
CellKey = tuple[str, int | None]
"""Content, and the second in which the cell starts; None: too late for a cell."""


def tally(windows: Iterable[Measured], received_at: datetime, width_s: int) -> dict[CellKey, Tally]:
    """Add windows up by content and cell of the time when they ended.

    A clock that is ahead is not believed: what would end in the future counts as ending on arrival.
    """
    latest, earliest = received_at + CLOCK_AHEAD, received_at - LATEST_ARRIVAL
    found: dict[CellKey, Tally] = {}
    for window in windows:
        at = window.ended_at
        in_time = at >= earliest
        if at > latest or not in_time:
            at = received_at
        key = window.content_digest, (int(at.timestamp()) // width_s * width_s if in_time else None)
        held = found.get(key)
        if held is None:
            held = found[key] = Tally(at, at)
        elif at < held.first_at:
            held.first_at = at
        elif at > held.last_at:
            held.last_at = at
        held.windows += 1
        held.distance_mm += round(window.distance_m * 1000)
        held.duration_ms += round(window.duration_s * 1000)
        held.decisions += window.decisions
        if window.energy_j is not None:
            held.energy_mj = (held.energy_mj or 0) + round(window.energy_j * 1000)
        if window.counts:
            for kind, count in window.counts.items():
                held.counts[kind] = held.counts.get(kind, 0) + count
    return found


def by_content(sums: Mapping[CellKey, Tally]) -> dict[str, Tally]:
    """Add cells up; the sums are new ones."""
    found: dict[str, Tally] = {}
    for (content, _), held in sums.items():
        found.setdefault(content, Tally(held.first_at, held.last_at)).add(held)
    return found


def add_to(sums: dict[Key, Tally], key: Key, more: Tally) -> None:
    """Add to the sum of a key; the first one becomes the sum."""
    held = sums.setdefault(key, more)
    if held is not more:
        held.add(more)


def bounded(amount: int) -> int:
    """Stop at what the database can add to, so that nonsense from one device does not stop its neighbours."""
    return min(amount, AMOUNT_MOST)


def bounded_counts(counts: Mapping[str, int]) -> dict[str, int]:
    return {kind: bounded(counts[kind]) for kind in sorted(counts)[:KINDS_MOST]}


def in_panel(device_id: str, halvings: int) -> bool:
    """Say whether a device is of those whose own sums are kept: a share of 1 / 2**halvings, by a hash of its id.

    More halvings only take devices out, so whoever is in has been in from the beginning.
    """
    return int(sha256(device_id.encode()).hexdigest()[: PANEL_BITS // 4], 16) >> (PANEL_BITS - halvings) == 0


def halvings_needed(devices: int, panel: int) -> int:
    """Return how often a fleet must be halved to be no more than `panel` devices."""
    return max(0, (max(devices, 1) - 1) // panel).bit_length()
