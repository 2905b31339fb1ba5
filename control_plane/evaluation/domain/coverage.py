"""What of the declared operating domain was simulated and what was driven: one definition for both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True, slots=True)
class Seen:
    """A number of things with the same tags: scenarios, field events, or exposure."""

    tags: frozenset[str]
    amount: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One value, or a pair of values of two dimensions, with what is known of it."""

    tags: tuple[str, ...]
    scenarios: int
    events: int
    exposure: float

    @property
    def driven(self) -> bool:
        return self.events > 0 or self.exposure > 0


@dataclass(frozen=True, slots=True)
class Coverage:
    cells: tuple[Cell, ...]

    @property
    def driven_not_simulated(self) -> tuple[Cell, ...]:
        """The gaps, the busiest first."""
        gaps = [cell for cell in self.cells if cell.driven and not cell.scenarios]
        return tuple(sorted(gaps, key=lambda cell: (-cell.events, -cell.exposure, cell.tags)))

    @property
    def simulated_share(self) -> float | None:
        """The share of driven cells that some scenario stands for."""
        driven = [cell for cell in self.cells if cell.driven]
        return sum(cell.scenarios > 0 for cell in driven) / len(driven) if driven else None


def cells_of(domain: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Give every value and every pair of values of different dimensions, as tags `dimension:value`."""
    singles = {name: [f"{name}:{value}" for value in values] for name, values in domain.items()}
    pairs = [(a, b) for one, other in combinations(singles, 2) for a in singles[one] for b in singles[other]]
    return [*((tag,) for tags in singles.values() for tag in tags), *pairs]


def coverage(
    domain: Mapping[str, Sequence[str]], scenarios: Iterable[Seen], events: Iterable[Seen], exposure: Iterable[Seen]
) -> Coverage:
    """Count the same cells in suites and in the field; a thing counts in every cell whose tags it has."""
    kinds = [list(scenarios), list(events), list(exposure)]
    cells = []
    for tags in cells_of(domain):
        counts = [sum(thing.amount for thing in things if set(tags) <= thing.tags) for things in kinds]
        cells.append(Cell(tags, round(counts[0]), round(counts[1]), counts[2]))
    return Coverage(tuple(cells))
