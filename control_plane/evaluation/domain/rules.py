"""One function per rule: from paired results to a verdict, a sentence and figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.evaluation.domain.pairs import Case, Pair, binary, binary_pairs, cluster_signs, value
from control_plane.evaluation.domain.policy import AbsoluteAtMost, Improves, MeanRatioAtMost, NonInferior, ZeroTolerance
from control_plane.evaluation.domain.values import CaseStatus, Figure, PairedSuite, Verdict
from control_plane.kit import statistics

FEWEST_CLUSTERS = 10  # an interval over fewer says more about luck than about models


@dataclass(frozen=True, slots=True)
class View:
    """A suite ready to be judged: its usable prefix and whether that is all of it."""

    suite: PairedSuite
    cases: tuple[Case, ...]
    alpha: float

    @property
    def complete(self) -> bool:
        return len(self.cases) == len(self.suite.scenarios)


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    because: str
    figures: dict[str, Figure]


def non_inferior(part: NonInferior, view: View) -> Finding:
    pairs = binary_pairs(view.cases, part.metric)
    harm = statistics.sign_path(cluster_signs(view.suite, pairs, len(view.cases)), view.alpha)
    bounds = statistics.paired_difference(
        [p.worse for p in pairs], [p.cluster for p in pairs], confidence=1 - view.alpha
    )
    figures = _counts(pairs) | _evidence("harm", harm, view.alpha) | {"margin": part.margin}
    figures |= {"difference": bounds.estimate, "difference_high": bounds.high}
    if harm.crossed_at is not None:
        return Finding(Verdict.FAIL, f"the candidate is worse: {_tally(pairs)}, {_e(harm, view.alpha)}", figures)
    if not view.complete:
        return Finding(Verdict.INCONCLUSIVE, _unfinished(view), figures)
    if len({p.cluster for p in pairs}) < FEWEST_CLUSTERS:
        return Finding(Verdict.INCONCLUSIVE, _too_few(pairs), figures)
    reach = f"{_change(bounds.high)} ({1 - view.alpha:.0%} bound), margin {_points(part.margin)}"
    if bounds.high < part.margin:
        return Finding(Verdict.PASS, f"no worse: {reach}; {_tally(pairs)}", figures)
    return Finding(Verdict.INCONCLUSIVE, f"not shown to be no worse: {reach}; {_tally(pairs)}", figures)


def improves(part: Improves, view: View) -> Finding:
    pairs = binary_pairs(view.cases, part.metric)
    signs = cluster_signs(view.suite, pairs, len(view.cases))
    harm = statistics.sign_path(signs, view.alpha)
    gain = statistics.sign_path([-sign for sign in signs], view.alpha)
    figures = _counts(pairs) | _evidence("harm", harm, view.alpha) | _evidence("gain", gain, view.alpha)
    if harm.crossed_at is not None and (gain.crossed_at is None or harm.crossed_at < gain.crossed_at):
        return Finding(Verdict.FAIL, f"the candidate is worse: {_tally(pairs)}, {_e(harm, view.alpha)}", figures)
    if gain.crossed_at is not None:
        return Finding(Verdict.PASS, f"the candidate is better: {_tally(pairs)}, {_e(gain, view.alpha)}", figures)
    because = f"no improvement shown: {_tally(pairs)}, {_e(gain, view.alpha)}"
    return Finding(Verdict.INCONCLUSIVE, because, figures)


def mean_ratio_at_most(part: MeanRatioAtMost, view: View) -> Finding:
    rows = [
        (value(c.candidate.metrics, part.metric), value(c.champion.metrics, part.metric), c.cluster)
        for c in view.cases
        if c.champion is not None and _both_count(part, c)
    ]
    clusters = [cluster for _, _, cluster in rows]
    bounds = statistics.mean_ratio([a for a, _, _ in rows], [b for _, b, _ in rows], clusters, 1 - view.alpha)
    figures: dict[str, Figure] = {"pairs": len(rows), "bound": part.bound, "ratio": bounds.estimate}
    figures |= {"ratio_low": _finite(bounds.low), "ratio_high": _finite(bounds.high)}
    if not view.complete:
        return Finding(Verdict.INCONCLUSIVE, _unfinished(view), figures)
    if bounds.estimate is None or len(set(clusters)) < FEWEST_CLUSTERS:
        because = f"only {len(rows)} scenarios can be compared, which is too few"
        return Finding(Verdict.INCONCLUSIVE, because, figures)
    shown = f"{part.metric} is {bounds.estimate:.3f} of the champion's ({bounds.low:.3f} to {bounds.high:.3f})"
    return Finding(_against(bounds, part.bound), f"{shown}, at most {part.bound:g} is allowed", figures)


def zero_tolerance(part: ZeroTolerance, view: View) -> Finding:
    wanted = set(part.scenarios) or {planned.scenario for planned in view.suite.scenarios}
    cases = [c for c in view.cases if c.planned.scenario in wanted]
    unusable = [c.planned.scenario for c in cases if not c.usable]
    pairs = binary_pairs([c for c in cases if c.usable], part.metric)
    broke = [p.scenario for p in pairs if p.worse > 0]
    figures: dict[str, Figure] = {"scenarios": len(wanted), "seen": len(cases), "broke": len(broke)}
    if broke:
        because = f"{len(broke)} of {len(cases)} scenarios that must never fail now fail: {_some(broke)}"
        return Finding(Verdict.FAIL, because, figures)
    if unusable:
        because = f"{len(unusable)} scenarios that must never fail could not be simulated: {_some(unusable)}"
        return Finding(Verdict.INCONCLUSIVE, because, figures)
    if len(cases) < len(wanted):
        because = f"{len(wanted) - len(cases)} scenarios that must never fail have no result"
        return Finding(Verdict.INCONCLUSIVE, because, figures)
    return Finding(Verdict.PASS, f"none of {len(cases)} scenarios that must never fail newly fails", figures)


def absolute_at_most(part: AbsoluteAtMost, view: View) -> Finding:
    cases = [c for c in view.cases if c.candidate.status is CaseStatus.OK]
    values = [value(c.candidate.metrics, part.metric) for c in cases]
    clusters = [c.cluster for c in cases]
    bounds = statistics.clustered_mean(values, clusters, 1 - view.alpha)
    figures: dict[str, Figure] = {"cases": len(cases), "mean": bounds.estimate, "bound": part.bound}
    figures |= {"mean_low": _finite(bounds.low), "mean_high": _finite(bounds.high)}
    if not view.complete:
        return Finding(Verdict.INCONCLUSIVE, _unfinished(view), figures)
    if bounds.estimate is None or len(set(clusters)) < FEWEST_CLUSTERS:
        return Finding(Verdict.INCONCLUSIVE, f"only {len(cases)} scenarios, which is too few", figures)
    shown = f"mean {part.metric} is {bounds.estimate:.4g} ({bounds.low:.4g} to {bounds.high:.4g})"
    return Finding(_against(bounds, part.bound), f"{shown}, at most {part.bound:g} is allowed", figures)


def _both_count(part: MeanRatioAtMost, case: Case) -> bool:
    if not case.usable or case.champion is None:
        return False
    name, wanted = (part.among, 1.0) if part.among else (part.failure, 0.0)
    return all(binary(side.metrics, name) == wanted for side in (case.candidate, case.champion))


def _against(bounds: statistics.Interval, bound: float) -> Verdict:
    if bounds.high <= bound:
        return Verdict.PASS
    return Verdict.FAIL if bounds.low > bound else Verdict.INCONCLUSIVE


def _counts(pairs: Sequence[Pair]) -> dict[str, Figure]:
    return {
        "pairs": len(pairs),
        "clusters": len({p.cluster for p in pairs}),
        "candidate_failures": sum(p.candidate for p in pairs),
        "champion_failures": sum(p.champion for p in pairs),
        "broke": sum(p.worse > 0 for p in pairs),
        "fixed": sum(p.worse < 0 for p in pairs),
    }


def _evidence(name: str, path: statistics.EPath, alpha: float) -> dict[str, Figure]:
    decided = None if path.crossed_at is None else path.crossed_at + 1
    return {f"{name}_e": path.peak, f"{name}_decided_after": decided, "e_needed": 1 / alpha}


def _e(path: statistics.EPath, alpha: float) -> str:
    return f"evidence {path.peak:.3g} of {1 / alpha:g} needed"


def _tally(pairs: Sequence[Pair]) -> str:
    counts = _counts(pairs)
    return (
        f"{counts['candidate_failures']} failures against {counts['champion_failures']} in {counts['pairs']} scenarios"
        f" ({counts['broke']} new, {counts['fixed']} fixed)"
    )


def _unfinished(view: View) -> str:
    return f"only {len(view.cases)} of {len(view.suite.scenarios)} scenarios have results and this rule needs all"


def _too_few(pairs: Sequence[Pair]) -> str:
    return f"only {len({p.cluster for p in pairs})} independent scenarios, which is too few"


def _change(high: float) -> str:
    if high < 0:
        return f"at least {_points(-high)} fewer failures"
    return f"at most {_points(high)} more failures"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
