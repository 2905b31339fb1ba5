"""Does simulation predict the field? The ratio of incident rates, candidate to champion, before and after."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from control_plane.evaluation.domain.pairs import binary_pairs, in_order, value
from control_plane.evaluation.domain.values import PairedSuite, Trust

CONFIDENCE = 0.95
FEWEST_RELEASES = 3
HALF = 0.5  # what is added to counts of nothing, so that a ratio has a logarithm (Haldane 1956)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of incident rates with a two-sided 95 % interval."""

    low: float
    estimate: float
    high: float


@dataclass(frozen=True, slots=True)
class SiteCounts:
    """What candidate and champion did at one site."""

    candidate_events: float
    candidate_exposure: float
    champion_events: float
    champion_exposure: float


@dataclass(frozen=True, slots=True)
class Release:
    """One candidate with what simulation said and what the field showed; None where it shows nothing yet."""

    candidate: str
    champion: str
    gate: str
    predicted: Ratio
    observed: Ratio | None

    @property
    def held(self) -> bool | None:
        """Whether both intervals have something in common."""
        if self.observed is None:
            return None
        return self.predicted.low <= self.observed.high and self.observed.low <= self.predicted.high

    @property
    def inside(self) -> bool | None:
        """Whether the observed ratio itself lies in the predicted interval."""
        if self.observed is None:
            return None
        return self.predicted.low <= self.observed.estimate <= self.predicted.high


@dataclass(frozen=True, slots=True)
class Calibration:
    """`bias` is the mean of log(observed / predicted): above 0, the field was worse than simulation said."""

    releases: int
    inside: int
    held: int
    rank_correlation: float | None
    bias: float | None


def predicted_ratio(suites: Sequence[PairedSuite], metric: str) -> Ratio | None:
    """Predict from the suites that are like the field, or else from the nominal ones; None without pairs.

    Rates are per metre where the results say how far, else per scenario; the variance of the log-ratio is linearised
    over clusters, because both models drove the same scenarios (Cochran 1977, ch. 6 and 9A).
    """
    chosen = [s for s in suites if s.kind == "field"] or [s for s in suites if s.kind == "nominal"]
    rows = [row for suite in chosen if suite.champion is not None for row in _rows(suite, metric)]
    if not rows:
        return None
    amounts = np.asarray([row[1:] for row in rows], dtype=np.float64)
    totals = amounts.sum(axis=0)
    if totals[1] <= 0 or totals[3] <= 0:
        return None
    floor = np.asarray([HALF if min(totals[0], totals[2]) == 0 else 0.0, 0.0])
    ours, theirs = totals[0] + floor[0], totals[2] + floor[0]
    signs = amounts[:, 0] / ours - amounts[:, 1] / totals[1] - amounts[:, 2] / theirs + amounts[:, 3] / totals[3]
    sums: dict[str, float] = {}
    for (cluster, *_), sign in zip(rows, signs.tolist(), strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + sign
    spread = math.sqrt(len(sums) / max(len(sums) - 1, 1) * sum(total**2 for total in sums.values()))
    return _ratio((ours / totals[1]) / (theirs / totals[3]), spread, len(sums) - 1)


def _rows(suite: PairedSuite, metric: str) -> list[tuple[str, float, float, float, float]]:
    cases = [case for case in in_order(suite) if case.usable]
    rows = []
    for case, pair in zip(cases, binary_pairs(cases, metric), strict=True):
        sides = (case.candidate.metrics, case.champion.metrics if case.champion else {})
        far = [value(side, "distance_m") if "distance_m" in side else 1.0 for side in sides]
        rows.append((f"{suite.suite}/{pair.cluster}", float(pair.candidate), far[0], float(pair.champion), far[1]))
    return rows


def observed_ratio(sites: Sequence[SiteCounts]) -> Ratio | None:
    """Compare rates within sites and pool (Mantel and Haenszel; variance of Greenland and Robins, Biometrics 1985).

    Sites differ more than models do, so a ratio over all of them together would compare sites.
    """
    usable = [s for s in sites if s.candidate_exposure > 0 and s.champion_exposure > 0]
    top = bottom = spread = 0.0
    for site in usable:
        time = site.candidate_exposure + site.champion_exposure
        top += site.candidate_events * site.champion_exposure / time
        bottom += site.champion_events * site.candidate_exposure / time
        events = site.candidate_events + site.champion_events
        spread += events * site.candidate_exposure * site.champion_exposure / time**2
    if top <= 0 or bottom <= 0:
        return None
    return _ratio(top / bottom, math.sqrt(spread / (top * bottom)), None)


def _ratio(estimate: float, error: float, freedom: int | None) -> Ratio:
    tail = (1 + CONFIDENCE) / 2
    quantile = float(scipy.stats.norm.ppf(tail) if freedom is None else scipy.stats.t.ppf(tail, max(freedom, 1)))
    return Ratio(estimate * math.exp(-quantile * error), estimate, estimate * math.exp(quantile * error))


def calibrate(releases: Sequence[Release]) -> Calibration:
    known = [(release, release.observed) for release in releases if release.observed is not None]
    logs = [(math.log(release.predicted.estimate), math.log(seen.estimate)) for release, seen in known]
    correlation = None
    if len(logs) >= FEWEST_RELEASES and all(len({pair[side] for pair in logs}) > 1 for side in (0, 1)):
        correlation = float(scipy.stats.spearmanr([p for p, _ in logs], [o for _, o in logs]).statistic)
    return Calibration(
        releases=len(known),
        inside=sum(bool(release.inside) for release, _ in known),
        held=sum(bool(release.held) for release, _ in known),
        rank_correlation=correlation,
        bias=sum(o - p for p, o in logs) / len(logs) if logs else None,
    )


def trust_of(found: Calibration) -> Trust:
    """Trust a simulator whose predictions held more often than not; with too few releases, say that."""
    if found.releases < FEWEST_RELEASES:
        have = "1 release has" if found.releases == 1 else f"{found.releases} releases have"
        because = f"{have} been in the field; from {FEWEST_RELEASES} on predictions are judged"
        return Trust(None, because)
    held = f"the field agreed with {found.held} of {found.releases} predictions of this simulator"
    bias = f", incidents were {math.exp(found.bias or 0.0):.2f} times what it said"
    return Trust(2 * found.held > found.releases, held + bias)
