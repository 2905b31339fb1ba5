"""Evidence about the mean of bounded values, valid at every look: wealth of bets against a null hypothesis.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 2023). Somebody who bets a
share `c` of what can be lost on every value multiplies the wealth by ``1 + c * gain / loss`` with ``gain >= -loss``.
While the mean gain is at most 0 the wealth is a supermartingale, so it ever reaches ``1 / alpha`` with probability at
most ``alpha`` (Ville). The wealth used here is a fixed mixture over shares: no tuning by the data, and no need to guess
how noisy the values are. Among bounded values with a known range no other kind of e-process is better (same, §5).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from control_plane.kit.slices import Floats
from control_plane.kit.statistics import EPath, Interval, epath

SHARES: Floats = np.asarray([0.02, 0.06, 0.15, 0.3, 0.5, 0.7, 0.95])
WEIGHTS: Floats = np.asarray([0.05, 0.05, 0.1, 0.15, 0.2, 0.2, 0.25])
"""More weight on bold bets: rare failures are the usual case, and there bold bets decide soonest."""
BISECTIONS = 1e-6


@dataclass(frozen=True, slots=True)
class Blocks:
    """Values summed over independent blocks (clusters), in the order in which they are looked at.

    `most` is the largest block there can be by plan: a bet must not depend on how large the next one happens to be.
    """

    sums: tuple[float, ...]
    sizes: tuple[float, ...]
    most: float


def below_path(blocks: Blocks, bound: float, high: float, alpha: float) -> EPath:
    """Test "the mean is at least `bound`" of values that never exceed `high`; the null is weighted by value."""
    if not bound < high:
        raise ValueError(f"nothing can be shown to lie below {bound:g} when values reach only {high:g}")
    sums, sizes = np.asarray(blocks.sums, dtype=np.float64), np.asarray(blocks.sizes, dtype=np.float64)
    gains = (bound * sizes - sums) / (blocks.most * (high - bound))
    if gains.size == 0:
        return EPath((), None)
    steps = np.log1p(SHARES[None, :] * np.maximum(gains, -1.0)[:, None])
    wealth = scipy.special.logsumexp(np.cumsum(steps, axis=0) + np.log(WEIGHTS), axis=1)
    return epath(np.asarray(wealth, dtype=np.float64), alpha)


def above_path(blocks: Blocks, bound: float, low: float, alpha: float) -> EPath:
    """Test "the mean is at most `bound`" of values that never fall below `low`."""
    return below_path(_mirrored(blocks), -bound, -low, alpha)


def anytime_interval(blocks: Blocks, low: float, high: float, alpha: float) -> Interval:
    """Bound the mean by what the bets have not ruled out so far; each bound holds at every look with 1 - alpha."""
    total = float(sum(blocks.sizes))
    if total <= 0:
        return Interval(low, None, high)
    upper = _upper(blocks, low, high, alpha)
    lower = -_upper(_mirrored(blocks), -high, -low, alpha)
    return Interval(lower, float(sum(blocks.sums)) / total, upper)


def _mirrored(blocks: Blocks) -> Blocks:
    return Blocks(tuple(-value for value in blocks.sums), blocks.sizes, blocks.most)


def _upper(blocks: Blocks, low: float, high: float, alpha: float) -> float:
    """Find the smallest mean that is ruled out; the wealth grows with the bound, so there is one place."""
    span = high - low

    def excess(share: float) -> float:
        return below_path(blocks, low + share * span, high, alpha).log_values[-1] - math.log(1 / alpha)

    top = 1 - 1e-9
    if excess(top) <= 0:
        return high
    return high if excess(0.0) > 0 else low + span * float(scipy.optimize.brentq(excess, 0.0, top, xtol=BISECTIONS))


# --- how much data a question needs ---------------------------------------------------------------------------------


def power_of_pairs(pairs: float, flip_rate: float, margin: float, alpha: float) -> float:
    """Say how likely equal models are shown to differ by less than `margin`; `pairs_needed` the other way round."""
    spread = flip_rate + margin * (1 - margin)
    quantile = float(scipy.stats.norm.ppf(1 - alpha))
    return float(scipy.stats.norm.cdf(margin * math.sqrt(max(pairs, 0.0) / spread) - quantile))


def margin_detectable(pairs: float, flip_rate: float, alpha: float, power: float) -> float:
    """Return the smallest margin within which that many pairs show equal models to be equal, with this power."""

    def lacking(margin: float) -> float:
        return power_of_pairs(pairs, flip_rate, margin, alpha) - power

    return 1.0 if lacking(1 - 1e-6) < 0 else float(scipy.optimize.brentq(lacking, 1e-6, 1 - 1e-6))


def steps_to_show(changes: Sequence[float], chances: Sequence[float], height: float, power: float) -> float:
    """Say after how many steps a random walk in log-wealth has climbed `height` with probability `power`.

    Wald's approximation as in `statistics.events_needed`; `changes` happen with `chances`. Infinite without a rise.
    """
    jumps, weights = np.asarray(changes, dtype=np.float64), np.asarray(chances, dtype=np.float64)
    drift = float(np.sum(jumps * weights))
    if drift <= 0:
        return math.inf
    spread = float(np.sum(jumps**2 * weights)) - drift**2
    reach = float(scipy.stats.norm.ppf(power)) * math.sqrt(max(spread, 0.0))
    return ((reach + math.sqrt(reach**2 + 4 * drift * height)) / (2 * drift)) ** 2


def pairs_to_bet(broke: float, fixed: float, margin: float, alpha: float, power: float) -> float:
    """Say how many independent pairs let `below_path` show a difference below `margin`, for the best of its shares."""
    found = [
        steps_to_show(
            [math.log1p(share * gain / (1 - margin)) for gain in (margin - 1, margin, margin + 1)],
            [broke, 1 - broke - fixed, fixed],
            math.log(1 / alpha) - math.log(weight),
            power,
        )
        for share, weight in zip(SHARES.tolist(), WEIGHTS.tolist(), strict=True)
    ]
    return min(found)


def pairs_to_tell(broke: float, fixed: float, alpha: float, power: float) -> float:
    """Say how many independent pairs let `statistics.sign_path` show which of two models fails less."""
    flips = broke + fixed
    if flips <= 0 or broke == fixed:
        return math.inf
    better = max(broke, fixed) / flips
    price = math.log(4)  # what the mixture costs against the true share, about
    discordant = steps_to_show(
        [math.log(2 * better), math.log(max(2 * (1 - better), 1e-9))],
        [better, 1 - better],
        math.log(1 / alpha) + price,
        power,
    )
    return discordant / flips
