"""Rules that compare two models, one function each: from paired results to a verdict, a sentence and figures."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from control_plane.evaluation.domain.finding import (
    FEWEST_CLUSTERS,
    Finding,
    View,
    counts,
    earliest,
    evidence,
    finite,
    points,
    some,
    tally,
    too_few,
    unfinished,
    weight_of,
)
from control_plane.evaluation.domain.pairs import Case, Pair, binary, binary_pairs, blocks_of, signs_of, value
from control_plane.evaluation.domain.parts import Improves, MeanRatioAtMost, NonInferior, ZeroTolerance
from control_plane.evaluation.domain.values import Figure, PlannedScenario, Verdict
from control_plane.kit import statistics
from control_plane.kit.betting import (
    Blocks,
    above_path,
    anytime_interval,
    below_path,
    margin_detectable,
    power_of_pairs,
)

POWER = 0.8  # at which the detectable margin is stated, as trials do


def non_inferior(part: NonInferior, view: View) -> Finding:
    """Two ways to pass: bets against "worse by the margin" at any look, Tango's bound once over the whole suite.

    Each has half of alpha (`SEQUENTIAL_SHARE`); with `once` the bound has all of it. Whatever is shown first stands.
    """
    pairs = binary_pairs(view.cases, part.metric)
    blocks = blocks_of(view.suite, len(view.cases), [(p.cluster, p.worse) for p in pairs])
    harm = statistics.sign_path(signs_of(blocks), view.alpha)
    safe = below_path(Blocks((), (), 1.0) if part.once else blocks, part.margin, 1.0, view.at_any_time)
    spent = view.alpha if part.once else view.at_the_end
    bounds = statistics.paired_difference([p.worse for p in pairs], [p.cluster for p in pairs], confidence=1 - spent)
    figures = counts(pairs) | evidence("harm", harm, view.alpha) | _power(part, view, pairs, spent)
    figures |= {"margin": part.margin, "difference": bounds.estimate}
    if not part.once:
        figures |= evidence("safe", safe, view.at_any_time)
        figures["difference_high_so_far"] = anytime_interval(blocks, -1.0, 1.0, view.at_any_time).high
    if view.complete:
        figures["difference_high"] = bounds.high
    first = earliest((harm, Verdict.FAIL), (safe, Verdict.PASS))
    if first is Verdict.FAIL:
        return Finding(first, f"the candidate is worse: {tally(pairs)}, {weight_of(harm, view.alpha)}", figures)
    if first is Verdict.PASS:
        because = f"no worse by {points(part.margin)}: {tally(pairs)}, {weight_of(safe, view.at_any_time)}"
        return Finding(first, because, figures)
    return _no_worse_at_the_end(part, view, pairs, bounds, figures)


def _no_worse_at_the_end(
    part: NonInferior,
    view: View,
    pairs: Sequence[Pair],
    bounds: statistics.Interval,
    figures: dict[str, Figure],
) -> Finding:
    if not view.complete:
        return Finding(Verdict.INCONCLUSIVE, unfinished(view), figures)
    clusters = len({p.cluster for p in pairs})
    if clusters < FEWEST_CLUSTERS:
        return Finding(Verdict.INCONCLUSIVE, too_few(clusters), figures)
    confidence = 1 - (view.alpha if part.once else view.at_the_end)
    reach = f"{_change(bounds.high)} ({confidence:.3g} bound), margin {points(part.margin)}"
    if bounds.high < part.margin:
        return Finding(Verdict.PASS, f"no worse: {reach}; {tally(pairs)}", figures)
    return Finding(Verdict.INCONCLUSIVE, f"not shown to be no worse: {reach}; {tally(pairs)}", figures)


def _power(part: NonInferior, view: View, pairs: Sequence[Pair], alpha: float) -> dict[str, Figure]:
    """State what the planned suite can show of equal models that differ as often as these do."""
    if not pairs:
        return {"planned": len(view.suite.scenarios)}
    values = np.asarray([p.worse for p in pairs], dtype=np.float64)
    inflate = statistics.design_effect(values, [p.cluster for p in pairs])
    flips = max(float(np.mean(np.abs(values))), 1 / len(pairs))
    size = len(view.suite.scenarios) / inflate
    return {
        "planned": len(view.suite.scenarios),
        "flip_rate": flips,
        "power": power_of_pairs(size, flips, part.margin, alpha),
        "margin_detectable": margin_detectable(size, flips, alpha, POWER),
        "pairs_needed": statistics.pairs_needed(flips, part.margin, alpha, POWER) * inflate,
    }


def improves(part: Improves, view: View) -> Finding:
    pairs = binary_pairs(view.cases, part.metric)
    signs = signs_of(blocks_of(view.suite, len(view.cases), [(p.cluster, p.worse) for p in pairs]))
    harm = statistics.sign_path(signs, view.alpha)
    gain = statistics.sign_path([-sign for sign in signs], view.alpha)
    figures = counts(pairs) | evidence("harm", harm, view.alpha) | evidence("gain", gain, view.alpha)
    figures["planned"] = len(view.suite.scenarios)
    first = earliest((gain, Verdict.PASS), (harm, Verdict.FAIL))
    if first is Verdict.FAIL:
        return Finding(first, f"the candidate is worse: {tally(pairs)}, {weight_of(harm, view.alpha)}", figures)
    if first is Verdict.PASS:
        return Finding(first, f"the candidate is better: {tally(pairs)}, {weight_of(gain, view.alpha)}", figures)
    because = f"no improvement shown: {tally(pairs)}, {weight_of(gain, view.alpha)}"
    return Finding(Verdict.INCONCLUSIVE, because, figures)


def mean_ratio_at_most(part: MeanRatioAtMost, view: View) -> Finding:
    """With `limits`, bets on `ours - bound * theirs` at any look; over the whole suite the linearised ratio.

    Each direction has half of alpha for either way; without limits there are no bets and the ratio has all of it.
    """
    rows = [
        (value(c.candidate.metrics, part.metric), value(c.champion.metrics, part.metric), c.cluster)
        for c in view.cases
        if c.champion is not None and _both_count(part, c)
    ]
    clusters = [cluster for _, _, cluster in rows]
    spent = view.alpha if part.limits is None else view.at_the_end
    bounds = statistics.mean_ratio([a for a, _, _ in rows], [b for _, b, _ in rows], clusters, 1 - spent)
    figures: dict[str, Figure] = {"pairs": len(rows), "planned": len(view.suite.scenarios), "bound": part.bound}
    figures |= {"ratio": bounds.estimate, "ratio_low": finite(bounds.low), "ratio_high": finite(bounds.high)}
    first = _ratio_so_far(part, view, rows, figures) if part.limits else None
    if first is None and not view.complete:
        return Finding(Verdict.INCONCLUSIVE, unfinished(view), figures)
    if bounds.estimate is None or (first is None and len(set(clusters)) < FEWEST_CLUSTERS):
        because = f"only {len(rows)} scenarios can be compared, which is too few"
        return Finding(Verdict.INCONCLUSIVE, because, figures)
    shown = f"{part.metric} is {bounds.estimate:.3f} of the champion's ({bounds.low:.3f} to {bounds.high:.3f})"
    return Finding(first or against(bounds, part.bound), f"{shown}, at most {part.bound:g} is allowed", figures)


def _ratio_so_far(
    part: MeanRatioAtMost, view: View, rows: Sequence[tuple[float, float, str]], figures: dict[str, Figure]
) -> Verdict | None:
    low, high = part.limits or (0.0, 0.0)
    within([a for a, _, _ in rows] + [b for _, b, _ in rows], (low, high), part.metric)
    blocks = blocks_of(view.suite, len(view.cases), [(cluster, a - part.bound * b) for a, b, cluster in rows])
    under = below_path(blocks, 0.0, high - part.bound * low, view.at_any_time)
    over = above_path(blocks, 0.0, low - part.bound * high, view.at_any_time)
    figures |= evidence("under", under, view.at_any_time) | evidence("over", over, view.at_any_time)
    return earliest((over, Verdict.FAIL), (under, Verdict.PASS))


def within(values: Sequence[float], limits: tuple[float, float], metric: str) -> None:
    """Refuse values outside what the policy says is possible: the bets would be worth nothing.

    Raises:
        ValueError: there is one.
    """
    outside = [value for value in values if not limits[0] <= value <= limits[1]]
    if outside:
        raise ValueError(
            f"the policy says that {metric} lies between {limits[0]:g} and {limits[1]:g}, and one is {outside[0]:g}"
        )


def zero_tolerance(part: ZeroTolerance, view: View) -> Finding:
    """A situation is newly failed when the candidate fails it with every seed and the champion does not.

    One that it fails more often than the champion, but not always, is nobody's pass: people look at it.
    """
    wanted = set(part.scenarios) or {planned.situation for planned in view.suite.scenarios}
    plan = [p for p in view.suite.scenarios if {p.situation, p.scenario} & wanted]
    cases = [c for c in view.cases if {c.planned.situation, c.planned.scenario} & wanted]
    unusable = [c.planned.scenario for c in cases if not c.usable]
    broke, sometimes = _newly_failed(part, plan, cases)
    absent = wanted - {p.situation for p in plan} - {p.scenario for p in plan}
    figures: dict[str, Figure] = {"planned": len(plan), "seen": len(cases), "broke": len(broke)}
    figures |= {"situations": len({p.situation for p in plan}) + len(absent), "sometimes": len(sometimes)}
    if broke:
        because = f"{len(broke)} of {len(wanted)} situations that must never fail now fail: {some(broke)}"
        return Finding(Verdict.FAIL, because, figures)
    if unusable:
        because = f"{len(unusable)} scenarios that must never fail could not be simulated: {some(unusable)}"
        return Finding(Verdict.INCONCLUSIVE, because, figures)
    if len(cases) < len(plan) or absent:
        because = f"{len(plan) - len(cases) + len(absent)} scenarios that must never fail have no result"
        return Finding(Verdict.INCONCLUSIVE, because, figures)
    if sometimes:
        because = f"{len(sometimes)} situations that must never fail now fail with some seeds: {some(sometimes)}"
        return Finding(Verdict.INCONCLUSIVE, because, figures)
    return Finding(Verdict.PASS, f"none of {len(wanted)} situations that must never fail newly fails", figures)


def _newly_failed(
    part: ZeroTolerance, plan: Sequence[PlannedScenario], cases: Sequence[Case]
) -> tuple[list[str], list[str]]:
    seeds = Counter(planned.situation for planned in plan)
    found: dict[str, list[Pair]] = {}
    usable = [case for case in cases if case.usable]
    for case, pair in zip(usable, binary_pairs(usable, part.metric), strict=True):
        found.setdefault(case.planned.situation, []).append(pair)
    broke: list[str] = []
    sometimes: list[str] = []
    for name, pairs in found.items():
        ours, theirs = sum(p.candidate for p in pairs), sum(p.champion for p in pairs)
        if ours > theirs and len(pairs) == seeds[name]:
            (broke if ours == len(pairs) else sometimes).append(name)
    return broke, sometimes


def _both_count(part: MeanRatioAtMost, case: Case) -> bool:
    if not case.usable or case.champion is None:
        return False
    name, wanted = (part.among, 1.0) if part.among else (part.failure, 0.0)
    return all(binary(side.metrics, name) == wanted for side in (case.candidate, case.champion))


def against(bounds: statistics.Interval, bound: float) -> Verdict:
    if bounds.high <= bound:
        return Verdict.PASS
    return Verdict.FAIL if bounds.low > bound else Verdict.INCONCLUSIVE


def _change(high: float) -> str:
    if high < 0:
        return f"at least {points(-high)} fewer failures"
    return f"at most {points(high)} more failures"
