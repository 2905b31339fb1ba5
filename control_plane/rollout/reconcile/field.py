"""What the field did for one rollout, kept from tick to tick: only cells that may have changed are read again."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from control_plane.registry.schemas import ModelItem
from control_plane.rollout.domain import Ledger, Plan, Stratum
from control_plane.telemetry.domain import CellLine, DeviceSum

MOST_SLICES = 100
"""Slices of time in the shortest stage: enough to tell morning from night, few enough to weigh at every tick."""
SUMS_AGE = timedelta(seconds=10)
ARMS = 2
Numbers = NDArray[np.int64]
Slot = tuple[int, Stratum]
Amounts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """How one rollout reads cells: which content is canary and which control, what is counted, in which slices."""

    canary: str
    control: frozenset[str]
    unit: str
    kinds: tuple[tuple[str, ...], ...]
    begun_at: datetime
    slice_s: float

    def slot(self, cell: CellLine) -> Slot:
        passed = (cell.starts_at - self.begun_at).total_seconds()
        return max(0, int(passed // self.slice_s)), Stratum(cell.site, cell.device_class)

    def amounts(self, cell: CellLine) -> Amounts:
        """Return exposure in thousandths of its unit, then events by count."""
        exposure = cell.distance_mm if self.unit == "distance_m" else cell.duration_ms
        counts = cell.counts
        if not counts:
            return (exposure, *[0] * len(self.kinds))
        return (exposure, *[sum([counts.get(kind, 0) for kind in kinds]) for kinds in self.kinds])


def kinds_of(model: ModelItem, plan: Plan) -> tuple[tuple[str, ...], ...]:
    """Return which kinds of event each count of the ledger sums: incidents, the gravest, what the plan watches."""
    incidents = tuple(sorted(kind for kind, rule in model.events.items() if rule.incident))
    gravest = tuple(sorted(kind for kind, rule in model.events.items() if rule.severity == "gravest"))
    return (incidents, gravest, *(watch.kinds for watch in plan.watch))


def slice_s(plan: Plan, cell_s: float) -> float:
    """Return the length of a slice of time: whole cells, so many in the shortest stage."""
    shortest = min(stage.deadline_s for stage in plan.stages)
    return cell_s * max(1, int(shortest / MOST_SLICES / cell_s))


class FieldView:
    """Cells by slice and stratum, in thousandths and counts: sums of whole numbers, whose order does not matter."""

    def __init__(self) -> None:
        self.mark = 0
        self.sums: list[DeviceSum] = []
        self.sums_at: datetime | None = None
        self.changed: set[Slot] = set()
        self._cells: dict[tuple[str, str, str, datetime], tuple[Amounts, tuple[int, int]]] = {}
        self._place: dict[Slot, int] = {}
        self._slots: list[Slot] = []
        self._rows: Numbers = np.zeros((0, ARMS, 1), dtype=np.int64)
        self._order: Numbers | None = None
        self._ledger: Ledger | None = None
        self._strata: tuple[Stratum, ...] = ()
        self._columns: tuple[Numbers, Numbers] = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))

    def take(self, reading: Reading, lines: Iterable[CellLine], mark: int) -> None:
        """Put what a cell says now in place of what it said before."""
        places, now, before = list[tuple[int, int]](), list[Amounts](), list[Amounts]()
        for cell in lines:
            if cell.content_digest != reading.canary and cell.content_digest not in reading.control:
                continue
            name = (cell.site, cell.device_class, cell.content_digest, cell.starts_at)
            amounts, known = reading.amounts(cell), self._cells.get(name)
            if known is None:
                known = ((0,) * len(amounts), self._place_of(reading, cell, len(amounts)))
            if amounts != known[0]:
                self._cells[name] = (amounts, known[1])
                self.changed.add(self._slots[known[1][0]])
                places.append(known[1])
                now.append(amounts)
                before.append(known[0])
        if places:
            self._ledger = None
            at = np.asarray(places)
            np.add.at(self._rows, (at[:, 0], at[:, 1]), np.asarray(now) - np.asarray(before))
        self.mark = mark

    def _place_of(self, reading: Reading, cell: CellLine, width: int) -> tuple[int, int]:
        return self._row(reading.slot(cell), width), int(cell.content_digest != reading.canary)

    def _row(self, slot: Slot, width: int) -> int:
        place = self._place.get(slot)
        if place is None:
            place = self._place[slot] = len(self._slots)
            self._slots.append(slot)
            self._order = None
            if place >= len(self._rows):
                grown = np.zeros((max(64, 2 * place), ARMS, width), dtype=np.int64)
                grown[:place, :, : self._rows.shape[2]] = self._rows[:place]
                self._rows = grown
        return place

    def ledger(self) -> Ledger:
        """Return everything in columns, by time and stratum."""
        if self._ledger is None:
            self._ledger = self._made()
        return self._ledger

    def _made(self) -> Ledger:
        if self._order is None:
            self._order = np.asarray(sorted(range(len(self._slots)), key=self._slots.__getitem__), dtype=np.int64)
            self._strata = tuple(sorted({stratum for _, stratum in self._slots}))
            number = {stratum: n for n, stratum in enumerate(self._strata)}
            self._columns = (
                np.asarray([self._slots[i][0] for i in self._order], dtype=np.int64),
                np.asarray([number[self._slots[i][1]] for i in self._order], dtype=np.int64),
            )
        rows = self._rows[self._order]
        return Ledger(self._strata, *self._columns, rows[:, :, 0] / 1000, rows[:, :, 1:])

    def driven(self) -> dict[Stratum, tuple[float, float]]:
        """Return canary and control exposure of every stratum."""
        ledger = self.ledger()
        size = len(ledger.strata)
        canary, control = (np.bincount(ledger.stratum, weights=arm, minlength=size) for arm in ledger.exposure.T)
        return dict(zip(ledger.strata, zip(canary.tolist(), control.tolist(), strict=True), strict=True))

    def slot_rows(self, slots: Iterable[Slot]) -> list[list[object]]:
        """Return slots as they stand, for the record: slice, site, class, then canary's and control's amounts."""
        return [[n, s.site, s.device_class, *self._rows[self._place[(n, s)]].tolist()] for n, s in sorted(slots)]
