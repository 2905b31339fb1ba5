"""What a rule is shown and what it finds, and the words in which findings speak."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from control_plane.evaluation.domain.pairs import Case, Pair
from control_plane.evaluation.domain.values import Figure, PairedSuite, Verdict
from control_plane.kit import statistics

FEWEST_CLUSTERS: Final = 10  # an interval over fewer says more about luck than about models
SEQUENTIAL_SHARE: Final = 0.5
"""The share of alpha that bets at every look may spend; the bound over the whole suite has the rest.

Either of the two may be what decides, so by the union bound a wrong claim is made with at most alpha in all.
"""


@dataclass(frozen=True, slots=True)
class View:
    """A suite ready to be judged: its usable prefix and whether that is all of it."""

    suite: PairedSuite
    cases: tuple[Case, ...]
    alpha: float

    @property
    def complete(self) -> bool:
        return len(self.cases) == len(self.suite.scenarios)

    @property
    def at_any_time(self) -> float:
        return self.alpha * SEQUENTIAL_SHARE

    @property
    def at_the_end(self) -> float:
        return self.alpha * (1 - SEQUENTIAL_SHARE)


@dataclass(frozen=True, slots=True)
class Finding:
    """`settled`: nothing that the suite still holds could change it."""

    verdict: Verdict
    because: str
    figures: dict[str, Figure]
    settled: bool = False


def earliest(*paths: tuple[statistics.EPath, Verdict]) -> Verdict | None:
    """Return what the first e-process to reach its threshold says; of two at once, the one named first."""
    crossed = [(path.crossed_at, place) for place, (path, _) in enumerate(paths) if path.crossed_at is not None]
    return paths[min(crossed)[1]][1] if crossed else None


def counts(pairs: Sequence[Pair]) -> dict[str, Figure]:
    return {
        "pairs": len(pairs),
        "clusters": len({p.cluster for p in pairs}),
        "candidate_failures": sum(p.candidate for p in pairs),
        "champion_failures": sum(p.champion for p in pairs),
        "broke": sum(p.worse > 0 for p in pairs),
        "fixed": sum(p.worse < 0 for p in pairs),
    }


def evidence(name: str, path: statistics.EPath, alpha: float) -> dict[str, Figure]:
    """`decided_after` counts independent scenarios (clusters)."""
    decided = None if path.crossed_at is None else path.crossed_at + 1
    return {f"{name}_e": path.peak, f"{name}_decided_after": decided, f"{name}_needed": 1 / alpha}


def weight_of(path: statistics.EPath, alpha: float) -> str:
    return f"evidence {path.peak:.3g} of {1 / alpha:g} needed"


def tally(pairs: Sequence[Pair]) -> str:
    found = counts(pairs)
    return (
        f"{found['candidate_failures']} failures against {found['champion_failures']} in {found['pairs']} scenarios"
        f" ({found['broke']} new, {found['fixed']} fixed)"
    )


def unfinished(view: View) -> str:
    return f"only {len(view.cases)} of {len(view.suite.scenarios)} scenarios have results, which does not settle it yet"


def too_few(clusters: int) -> str:
    return f"only {clusters} independent scenarios, which is too few"


def points(share: float) -> str:
    return f"{100 * share:.1f} points"


def some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
