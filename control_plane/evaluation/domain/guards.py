"""Rules that need no champion: how bad, how dear, how well covered; and what lies outside of any suite."""

from collections import Counter

from control_plane.evaluation.domain.finding import (
    FEWEST_CLUSTERS,
    Finding,
    View,
    earliest,
    evidence,
    finite,
    some,
    too_few,
    unfinished,
)
from control_plane.evaluation.domain.pairs import blocks_of, value
from control_plane.evaluation.domain.parts import AbsoluteAtMost, Budget, CoverageAtLeast
from control_plane.evaluation.domain.rules import against, within
from control_plane.evaluation.domain.values import CaseStatus, Context, Figure, Verdict
from control_plane.kit import statistics
from control_plane.kit.betting import above_path, below_path

Row = tuple[str, float]


def absolute_at_most(part: AbsoluteAtMost, view: View) -> Finding:
    """Bets where the policy says between which values the metric lies, and an interval over the whole suite."""
    rows = _candidate_rows(part.metric, view)
    figures: dict[str, Figure] = {"cases": len(rows), "planned": len(view.suite.scenarios), "bound": part.bound}
    return _mean_at_most(view, rows, part.bound, part.limits, figures, f"mean {part.metric}")


def _candidate_rows(metric: str, view: View) -> list[Row]:
    return [(c.cluster, value(c.candidate.metrics, metric)) for c in view.cases if c.candidate.status is CaseStatus.OK]


def _mean_at_most(
    view: View,
    rows: list[Row],
    bound: float,
    limits: tuple[float, float] | None,
    figures: dict[str, Figure],
    what: str,
) -> Finding:
    """Half of alpha for bets at any look and half for the end, or all of it for the end where nobody gives limits."""
    spent = view.alpha if limits is None else view.at_the_end
    values, clusters = [amount for _, amount in rows], [cluster for cluster, _ in rows]
    bounds = statistics.clustered_mean(values, clusters, 1 - spent)
    figures |= {"mean": bounds.estimate, "mean_low": finite(bounds.low), "mean_high": finite(bounds.high)}
    first = None
    if limits is not None:
        within(values, limits, what)
        blocks = blocks_of(view.suite, len(view.cases), rows)
        under = below_path(blocks, bound, limits[1], view.at_any_time)
        over = above_path(blocks, bound, limits[0], view.at_any_time)
        figures |= evidence("under", under, view.at_any_time) | evidence("over", over, view.at_any_time)
        first = earliest((over, Verdict.FAIL), (under, Verdict.PASS))
    if first is None and not view.complete:
        return Finding(Verdict.INCONCLUSIVE, unfinished(view), figures)
    if bounds.estimate is None or (first is None and len(set(clusters)) < FEWEST_CLUSTERS):
        return Finding(Verdict.INCONCLUSIVE, too_few(len(set(clusters))), figures)
    shown = f"{what} is {bounds.estimate:.4g} ({bounds.low:.4g} to {bounds.high:.4g})"
    return Finding(first or against(bounds, bound), f"{shown}, at most {bound:g} is allowed", figures)


def budget(part: Budget, view: View) -> Finding:
    """A quantile is within its budget when few enough scenarios exceed it: a share, so that bets can be made on it.

    A sum per unit is a ratio of sums and needs the whole suite (Cochran 1977, ch. 6).
    """
    whose = f" on {part.device_class}" if part.device_class else ""
    rows = _candidate_rows(part.metric, view)
    figures: dict[str, Figure] = {"cases": len(rows), "planned": len(view.suite.scenarios), "at_most": part.at_most}
    if not rows:
        return Finding(Verdict.INCONCLUSIVE, f"nobody measured {part.metric}{whose}", figures)
    if part.quantile is not None:
        over = [(cluster, float(amount > part.at_most)) for cluster, amount in rows]
        share = 1 - part.quantile
        figures |= {"quantile": part.quantile, "exceeded": sum(bad for _, bad in over)}
        what = f"share of scenarios with {part.metric} over {part.at_most:g}{whose}"
        return _mean_at_most(view, over, round(share, 12), (0.0, 1.0), figures, what)
    return _per_unit(part, view, rows, figures, whose)


def _per_unit(part: Budget, view: View, rows: list[Row], figures: dict[str, Figure], whose: str) -> Finding:
    units = _candidate_rows(part.per or "", view)
    clusters = [cluster for cluster, _ in rows]
    bounds = statistics.mean_ratio([a for _, a in rows], [b for _, b in units], clusters, 1 - view.alpha)
    figures |= {"ratio": bounds.estimate, "ratio_low": finite(bounds.low), "ratio_high": finite(bounds.high)}
    if not view.complete:
        return Finding(Verdict.INCONCLUSIVE, unfinished(view), figures)
    if bounds.estimate is None or len(set(clusters)) < FEWEST_CLUSTERS:
        return Finding(Verdict.INCONCLUSIVE, too_few(len(set(clusters))), figures)
    shown = f"{part.metric} per {part.per} is {bounds.estimate:.4g} ({bounds.low:.4g} to {bounds.high:.4g}){whose}"
    return Finding(against(bounds, part.at_most), f"{shown}, at most {part.at_most:g} is allowed", figures)


def coverage_at_least(part: CoverageAtLeast, view: View) -> Finding:
    """Count by tag what the suite plans and what has usable results; a floor above the plan is never met by waiting."""
    planned, usable = Counter[str](), Counter[str]()
    for name, _ in part.floors:
        wanted = set(name.split("+"))
        planned[name] = sum(wanted <= set(s.tags) for s in view.suite.scenarios)
        usable[name] = sum(wanted <= set(c.planned.tags) for c in view.cases if c.usable)
    figures: dict[str, Figure] = {"planned": len(view.suite.scenarios)}
    for name, floor in part.floors:
        figures[f"{name} usable"], figures[f"{name} needed"] = usable[name], floor
    never = [f"{name} ({planned[name]} of {floor})" for name, floor in part.floors if planned[name] < floor]
    if never:
        return Finding(Verdict.INCONCLUSIVE, f"the suite itself holds too few of {some(never)}", figures, settled=True)
    short = [f"{name} ({usable[name]} of {floor})" for name, floor in part.floors if usable[name] < floor]
    if short:
        return Finding(Verdict.INCONCLUSIVE, f"too few usable results of {some(short)}", figures)
    return Finding(Verdict.PASS, f"enough usable results of all {len(part.floors)} situations asked for", figures)


def reviews_closed(context: Context, questions: tuple[str, ...]) -> Finding:
    """`questions` are the subjects that this candidate's flips ask people about."""
    states = {subject: context.reviews.get(subject, "open") for subject in questions}
    figures: dict[str, Figure] = {"questions": len(states)}
    figures |= {state: sum(found == state for found in states.values()) for state in ("open", "approved", "rejected")}
    rejected = [subject for subject, state in states.items() if state == "rejected"]
    if rejected:
        because = f"people said no to {len(rejected)} of {len(states)} questions: {some(rejected)}"
        return Finding(Verdict.FAIL, because, figures)
    if figures["open"]:
        because = f"{figures['open']} of {len(states)} questions about flips wait for people"
        return Finding(Verdict.INCONCLUSIVE, because, figures)
    return Finding(Verdict.PASS, f"people answered all {len(states)} questions about flips", figures)


def no_overlap(context: Context) -> Finding:
    if context.overlaps is None:
        return Finding(Verdict.INCONCLUSIVE, "nobody knows what this candidate was trained on", {})
    figures: dict[str, Figure] = {"overlaps": len(context.overlaps)}
    if context.overlaps:
        names = [f"{found.suite}/{found.scenario} ({found.because})" for found in context.overlaps]
        because = f"{len(names)} scenarios were trained on: {some(names)}"
        return Finding(Verdict.FAIL, because, figures)
    return Finding(Verdict.PASS, "no scenario is or nearly is something the candidate was trained on", figures)


def predictive(context: Context) -> Finding:
    """No history is no reason to distrust and none to trust: inconclusive, and said so."""
    trust = context.trust
    if trust is None or trust.predictive is None:
        return Finding(Verdict.INCONCLUSIVE, trust.because if trust else "no release has been in the field yet", {})
    return Finding(Verdict.PASS if trust.predictive else Verdict.FAIL, trust.because, {})
