"""Evidence from counts: e-processes, confidence intervals that respect clusters, and how much data a question needs.

Pure numpy and scipy. An *e-process* starts at 1 and is a supermartingale while the null hypothesis holds, so by Ville's
inequality it ever reaches ``1 / alpha`` with probability at most ``alpha``, however often somebody looks (Ramdas and
others, "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 2023).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from control_plane.kit.slices import Floats, Slices, TwoArmStep

MAX_LOG = 690.0  # exp() of more is not a float
FEW_CLUSTERS_WITH_NEWS = 10  # below this the design effect cannot be estimated
RATIO_GRID: Floats = np.geomspace(1e-3, 1e3, 1201)
FINE_SLICES = 100  # more are pooled for an interval, whose bounds are then good to five percent


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its bounds; `estimate` is None where the data say nothing, bounds may be infinite."""

    low: float
    estimate: float | None
    high: float


@dataclass(frozen=True, slots=True)
class EPath:
    """The logarithm of an e-process after every step, and the first step at which it reached its threshold."""

    log_values: tuple[float, ...]
    crossed_at: int | None

    @property
    def value(self) -> float:
        return exp(self.log_values[-1]) if self.log_values else 1.0

    @property
    def peak(self) -> float:
        return exp(max(self.log_values, default=0.0))


@dataclass(frozen=True, slots=True)
class UnitMoments:
    """Sums over the units (clusters) of one arm in one stratum: enough to see how much units differ."""

    units: int
    exposure: float
    events: float
    exposure_squared: float
    events_squared: float
    events_times_exposure: float


def warm() -> None:
    """Load scipy's parts now: they come when they are first used, and a server has no second to spare then."""
    for part in ("optimize", "special", "stats"):
        getattr(scipy, part)


def exp(log_value: float) -> float:
    """Leave the logarithm, capped where a float would overflow."""
    return math.exp(min(log_value, MAX_LOG))


def epath(log_values: Floats, alpha: float) -> EPath:
    over = np.flatnonzero(log_values >= math.log(1.0 / alpha) - 1e-12)
    return EPath(tuple(float(v) for v in log_values), int(over[0]) if over.size else None)


# --- paired outcomes ------------------------------------------------------------------------------------------------


def sign_path(signs: Sequence[int], alpha: float) -> EPath:
    """Test "a plus is no likelier than a minus" sign by sign; zeros say nothing.

    The mixture of likelihood ratios theta^k (1-theta)^m / 2^-(k+m) over theta uniform on (1/2, 1), in closed form: the
    sequential counterpart of McNemar's test (Robbins 1970, "Statistical methods related to the law of the iterated
    logarithm"). A supermartingale for every theta <= 1/2.
    """
    array = np.sign(np.asarray(signs, dtype=np.float64))
    plus, minus = np.cumsum(array > 0), np.cumsum(array < 0)
    with np.errstate(divide="ignore"):
        tail = np.log(scipy.special.betainc(minus + 1.0, plus + 1.0, 0.5))
    log_values = (plus + minus + 1) * math.log(2.0) + scipy.special.betaln(plus + 1.0, minus + 1.0) + tail
    return epath(np.asarray(log_values, dtype=np.float64), alpha)


def paired_difference(differences: Sequence[float], clusters: Sequence[Hashable], confidence: float) -> Interval:
    """Bound the mean of differences in {-1, 0, 1}; each bound holds with `confidence` by itself (one-sided).

    Tango's score interval for paired proportions (Statistics in Medicine 1998), which stays honest without any
    discordant pair, with its variance multiplied by the design effect of the clusters.
    """
    values = np.asarray(differences, dtype=np.float64)
    total, plus, minus = values.size, float(np.sum(values > 0)), float(np.sum(values < 0))
    if total == 0:
        return Interval(-1.0, None, 1.0)
    inflate = design_effect(values, clusters)
    quantile = _quantile(confidence, len(set(clusters)))

    def bound(up: float, down: float) -> float:
        return _tango_upper(up, down, float(total), inflate, quantile)

    return Interval(-bound(minus, plus), (plus - minus) / total, bound(plus, minus))


def _tango_upper(plus: float, minus: float, total: float, inflate: float, quantile: float) -> float:
    def excess(delta: float) -> float:
        b = -plus - minus + (2 * total - plus + minus) * delta
        c = -minus * delta * (1 - delta)
        q = (math.sqrt(max(b * b - 8 * total * c, 0.0)) - b) / (4 * total)
        spread = math.sqrt(max(inflate * total * (2 * q + delta * (1 - delta)), 1e-12))
        return (total * delta - (plus - minus)) / spread - quantile

    low = (plus - minus) / total
    return 1.0 if excess(1.0 - 1e-9) <= 0 else float(scipy.optimize.brentq(excess, low, 1.0 - 1e-9))


def design_effect(values: Floats, clusters: Sequence[Hashable]) -> float:
    """Say how many times the variance of the mean exceeds that of independent values (never below 1).

    With news (a non-zero value) from too few clusters to tell, every cluster counts as a single value.
    """
    index, sizes = _clusters(clusters)
    if sizes.size == values.size:
        return 1.0
    if len(set(index[values != 0].tolist())) < FEW_CLUSTERS_WITH_NEWS:
        return float(np.sum(sizes**2) / np.sum(sizes))
    residuals = values - float(np.mean(values))
    sums = np.bincount(index, weights=residuals)
    robust = sizes.size / (sizes.size - 1) * float(np.sum(sums**2))
    return max(1.0, robust / max(float(np.sum(residuals**2)), 1e-12))


# --- means, proportions and ratios under clusters -------------------------------------------------------------------


def mean_ratio(
    numerators: Sequence[float], denominators: Sequence[float], clusters: Sequence[Hashable], confidence: float
) -> Interval:
    """Bound sum(numerators) / sum(denominators); linearised, cluster-robust, one-sided (Cochran 1977, ch. 6 and 9A)."""
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    index, sizes = _clusters(clusters)
    if sizes.size < 2 or float(np.sum(bottom)) <= 0:
        return Interval(-math.inf, None, math.inf)
    ratio = float(np.sum(top) / np.sum(bottom))
    sums = np.bincount(index, weights=top - ratio * bottom)
    error = math.sqrt(sizes.size / (sizes.size - 1) * float(np.sum(sums**2))) / float(np.sum(bottom))
    reach = _quantile(confidence, sizes.size) * error
    return Interval(ratio - reach, ratio, ratio + reach)


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable], confidence: float) -> Interval:
    """Bound a mean; 0/1 values by Clopper-Pearson on the effective sample size, others by the robust t interval."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return Interval(-math.inf, None, math.inf)
    if not bool(np.all((array == 0) | (array == 1))):
        return mean_ratio(values, [1.0] * array.size, clusters, confidence)
    size = array.size / design_effect(array, clusters)
    mean = float(np.mean(array))
    hits, misses = mean * size, (1 - mean) * size
    low = float(scipy.stats.beta.ppf(1 - confidence, hits, misses + 1)) if hits > 0 else 0.0
    high = float(scipy.stats.beta.ppf(confidence, hits + 1, misses)) if misses > 0 else 1.0
    return Interval(low, mean, high)


def rate_interval(events: Sequence[float], exposures: Sequence[float], confidence: float) -> Interval:
    """Bound events per exposure from one count and one exposure per unit; two-sided.

    Garwood's exact Poisson interval on counts divided by the units' dispersion factor (quasi-Poisson; McCullagh and
    Nelder 1989, section 6.2), so that units that differ widen it.
    """
    counts, amounts = np.asarray(events, dtype=np.float64), np.asarray(exposures, dtype=np.float64)
    exposure, total = float(np.sum(amounts)), float(np.sum(counts))
    if exposure <= 0:
        return Interval(0.0, None, math.inf)
    rate, units = total / exposure, counts.size
    spread = float(np.sum((counts - rate * amounts) ** 2)) * units / max(units - 1, 1)
    factor = max(1.0, spread / total) if total > 0 else 1.0
    tail, size = (1 - confidence) / 2, total / factor
    low = float(scipy.stats.gamma.ppf(tail, size)) if size > 0 else 0.0
    high = float(scipy.stats.gamma.ppf(1 - tail, size + 1))
    return Interval(low * factor / exposure, rate, high * factor / exposure)


def _clusters(clusters: Sequence[Hashable]) -> tuple[NDArray[np.intp], Floats]:
    numbers: dict[Hashable, int] = {}
    index = np.asarray([numbers.setdefault(c, len(numbers)) for c in clusters], dtype=np.intp)
    return index, np.bincount(index, minlength=len(numbers)).astype(np.float64)


def _quantile(confidence: float, clusters: int) -> float:
    return float(scipy.stats.t.ppf(confidence, max(clusters - 1, 1)))


# --- two arms, events per exposure ----------------------------------------------------------------------------------


def rate_ratio_path(
    slices: Slices | Sequence[TwoArmStep],
    null_ratio: float,
    ratios: Sequence[float],
    alpha: float,
    dispersion: float = 1.0,
) -> EPath:
    """Test the ratio of two event rates against `null_ratio`, look by look, whatever the base rate is.

    Given an event, it happened in the treated arm with probability r*T / (r*T + C) where T and C are the exposures of
    that slice: the base rate cancels (Przyborowski and Wilenski 1940), and so do site, season and allocation, because
    every stratum compares only with itself. Equal-weight mixture of likelihood ratios over `ratios`, all above the null
    (harm: null is "at most") or all below it (non-inferiority: null is "at least"); anytime-valid as in Lindon and
    Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022). `dispersion` above 1 tempers the
    likelihoods to the power 1/dispersion, the quasi-likelihood answer to units that differ.
    """
    grid = np.asarray(ratios, dtype=np.float64)
    if not (bool(np.all(grid > null_ratio)) or bool(np.all(grid < null_ratio))):
        raise ValueError(f"the ratios of a mixture lie on one side of the null ratio {null_ratio}, not {list(ratios)}")
    table = slices if isinstance(slices, Slices) else Slices.of(slices)
    if not table.count:
        return EPath((), None)
    found = table.log_likelihoods(np.append(grid, null_ratio))
    paths = np.cumsum(found[:-1] - found[-1], axis=1) / dispersion
    return epath(scipy.special.logsumexp(paths, axis=0) - math.log(grid.size), alpha)


def rate_ratio_interval(
    slices: Slices | Sequence[TwoArmStep], alpha: float, dispersion: float = 1.0, *, anytime: bool = True
) -> Interval:
    """Bound the ratio of two event rates by what the likelihood does not rule out.

    `anytime`: the confidence sequence {r : mixture likelihood / likelihood(r) < 1/alpha} (Robbins 1970), valid at every
    look at once. Otherwise the likelihood-ratio interval for a single look.
    """
    table = slices if isinstance(slices, Slices) else Slices.of(slices)
    if not table.has_events:
        return Interval(0.0, None, math.inf)
    many = table.size > FINE_SLICES
    exact, grid = (table.pooled(), RATIO_GRID[::4]) if many else (table, RATIO_GRID)
    curve = np.sum(exact.log_likelihoods(grid), axis=1) / dispersion
    best = int(np.argmax(curve))
    floor = (
        float(scipy.special.logsumexp(curve)) - math.log(grid.size) - math.log(1 / alpha)
        if anytime
        else float(curve[best]) - float(scipy.stats.chi2.ppf(1 - alpha, 1)) / 2
    )
    inside = np.flatnonzero(curve > floor)
    first, last = int(inside[0]), int(inside[-1])
    low = 0.0 if first == 0 else float(grid[first - 1])
    high = math.inf if last == grid.size - 1 else float(grid[last + 1])
    return Interval(low, float(grid[best]), high)


def own_history(before: Sequence[tuple[float, float]], since: Sequence[tuple[float, float]], floor: float) -> Slices:
    """Compare units with their own past, given (events, exposure) of each unit before a change and since.

    A unit's own rate is gamma distributed with the fleet's mean and the fleet's variance between units (moments of the
    past, at least `floor`); its past makes that prior its own. What follows then has the likelihood of one slice whose
    control is the past plus the prior's pseudo-counts (negative binomial; Gelman and others, "Bayesian Data Analysis",
    section 2.6). A martingale while the prior is right and nothing changes for the whole fleet.
    """
    past, new = np.asarray(before, dtype=np.float64).reshape(-1, 2), np.asarray(since, dtype=np.float64).reshape(-1, 2)
    events, exposure = float(np.sum(past[:, 0])), float(np.sum(past[:, 1]))
    if events <= 0 or exposure <= 0:
        return Slices.of([])
    shape = 1 / max(frailty([unit_moments(past[:, 0], past[:, 1])]), floor)
    pseudo_exposure = shape * exposure / events
    return Slices(
        new[:, 1],
        past[:, 1] + pseudo_exposure,
        new[:, 0],
        past[:, 0] + shape,
        np.zeros(len(past), dtype=np.int64),
    )


def dispersion(
    arms: Sequence[tuple[UnitMoments, UnitMoments]], floor: float = 0.0, ratio: float = 1.0, errors: float = 0.0
) -> float:
    """Say how many times the variance of "treated minus expected" exceeds Poisson's because units differ.

    `arms`: (treated, control) per stratum. Units with frailty variance phi have counts of variance mu + phi*mu^2. phi
    is estimated by moments within arms and strata (so neither effect nor site enters it), never below `floor`; the
    squared exposures of both arms then say what it does to the comparison, if the treated rate is `ratio` times the
    control's: the more happens, the more units that differ weigh beside chance. `errors`: by how many standard errors
    phi is taken above its estimate. 1 when nothing is known.
    """
    phi = max(frailty([moments for pair in arms for moments in pair], errors), floor)
    extra = plain = 0.0
    for treated, control in arms:
        if treated.exposure <= 0 or control.exposure <= 0:
            continue
        weight = ratio * treated.exposure + control.exposure
        rate, share = (treated.events + control.events) / weight, ratio * treated.exposure / weight
        squares = ((1 - share) * ratio) ** 2 * treated.exposure_squared + share**2 * control.exposure_squared
        extra += rate**2 * squares
        plain += rate * share * (1 - share) * weight
    return 1.0 + phi * extra / plain if plain > 0 else 1.0


def frailty(arms: Sequence[UnitMoments], errors: float = 0.0) -> float:
    """Estimate the variance of the units' own rate factor (mean 1) by moments; 0 when counts look plainly Poisson.

    `errors`: how many standard errors of the estimate to add; the error is that of units which drove alike.
    """
    surplus = scale = 0.0
    counts: list[tuple[int, float]] = []
    for arm in arms:
        if arm.units < 2 or arm.exposure <= 0 or arm.events <= 0:
            continue
        rate = arm.events / arm.exposure
        squares = arm.events_squared - 2 * rate * arm.events_times_exposure + rate**2 * arm.exposure_squared
        surplus += squares * arm.units / (arm.units - 1) - arm.events
        scale += rate**2 * arm.exposure_squared
        counts.append((arm.units, arm.events / arm.units))
    if scale <= 0:
        return 0.0
    phi = max(0.0, surplus / scale)
    noise = sum(2 * units * (mean + phi * mean**2) ** 2 for units, mean in counts)
    return phi + errors * math.sqrt(noise) / scale


def unit_moments(events: Sequence[float] | Floats, exposures: Sequence[float] | Floats) -> UnitMoments:
    counts, amounts = np.asarray(events, dtype=np.float64), np.asarray(exposures, dtype=np.float64)
    return UnitMoments(
        counts.size,
        float(np.sum(amounts)),
        float(np.sum(counts)),
        float(np.sum(amounts**2)),
        float(np.sum(counts**2)),
        float(np.sum(counts * amounts)),
    )


# --- how much data a question needs ---------------------------------------------------------------------------------


def events_needed(
    null_ratio: float, true_ratio: float, ratios: Sequence[float], *, share: float, alpha: float, power: float
) -> float:
    """Say how many treated events *at ratio 1* let `rate_ratio_path` cross with probability `power`.

    Wald's approximation: per such event the log-likelihood ratio gains `drift` with variance `spread`; solve
    drift*m - z*sqrt(spread*m) = log(1/alpha) + half the price of the mixture, for the best ratio of the mixture.
    `share` is the treated share of all exposure. Infinite when the data cannot tell.
    """
    grid = np.asarray(ratios, dtype=np.float64)
    miss = np.log((null_ratio * share + 1 - share) / (grid * share + 1 - share))
    hit = np.log(grid / null_ratio) + miss
    others = (1 - share) / share
    drift = true_ratio * hit + others * miss
    spread = true_ratio * hit**2 + others * miss**2
    height = math.log(1 / alpha) + math.log(grid.size) / 2
    quantile = float(scipy.stats.norm.ppf(power))
    useful = drift > 0
    if not bool(np.any(useful)):
        return math.inf
    drift, reach = drift[useful], quantile * np.sqrt(spread[useful])
    roots = (reach + np.sqrt(reach**2 + 4 * drift * height)) / (2 * drift)
    return float(np.min(roots**2))


def pairs_needed(flip_rate: float, margin: float, alpha: float, power: float) -> int:
    """Say how many independent pairs show non-inferiority within `margin` when both sides are equally good.

    `flip_rate` is the share of pairs that differ, either way (Connor 1987).
    """
    quantiles = float(scipy.stats.norm.ppf(1 - alpha) + scipy.stats.norm.ppf(power))
    return math.ceil(quantiles**2 * (flip_rate + margin * (1 - margin)) / margin**2)
