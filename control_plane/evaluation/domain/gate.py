"""From a policy and paired evidence to one of three verdicts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from control_plane.evaluation.domain import rules
from control_plane.evaluation.domain.pairs import binary_pairs, flips, in_order, trouble
from control_plane.evaluation.domain.policy import (
    AbsoluteAtMost,
    GatePolicy,
    Improves,
    MeanRatioAtMost,
    NonInferior,
    Part,
    ZeroTolerance,
)
from control_plane.evaluation.domain.values import Flip, GateDecision, PairedSuite, PartVerdict, Stop, Verdict


def decide_gate(policy: GatePolicy, evidence: Sequence[PairedSuite]) -> GateDecision:
    """Fail if any part fails, else inconclusive if any is, else pass. Nothing seen is never a pass."""
    suites = {suite.suite: suite for suite in evidence}
    if len(suites) != len(evidence):
        raise ValueError("the evidence holds a suite twice")
    parts = _parts(policy, evidence)
    verdicts = tuple(_judge(policy, part, suites.get(part.suite)) for part in parts)
    return GateDecision(*_overall(policy, verdicts), verdicts, _review(policy, evidence))


def stopping(policy: GatePolicy, suite: PairedSuite) -> Stop:
    """Say whether the results so far settle what the gate will say about this suite, however often it is asked.

    Settled are: any failed part; or a passed part under every rule that is valid at any time (`improves`).
    """
    parts = [part for part in _parts(policy, (suite,)) if part.suite == suite.suite]
    if not parts:
        return Stop(True, f"{suite.suite}: no rule of the gate looks at this suite")
    cases = in_order(suite)
    if len(cases) == len(suite.scenarios):
        return Stop(True, f"{suite.suite}: every scenario has a result")
    if not cases:
        return Stop(False, f"{suite.suite}: there are no results yet")
    prefix = _only(suite, frozenset(case.planned.scenario for case in cases))
    found = [_judge(policy, part, prefix) for part in parts]
    for verdict in found:
        if verdict.verdict is Verdict.FAIL:
            return Stop(True, f"{suite.suite}: {verdict.because}")
    if all(verdict.verdict is Verdict.PASS for verdict in found):
        return Stop(True, f"{suite.suite}: {found[0].because}")
    return Stop(False, f"{suite.suite}: {len(cases)} of {len(suite.scenarios)} scenarios have results")


def _parts(policy: GatePolicy, evidence: Sequence[PairedSuite]) -> tuple[Part, ...]:
    first_ever = bool(evidence) and all(suite.champion is None for suite in evidence)
    return policy.first if first_ever and policy.first else policy.parts


def _only(suite: PairedSuite, names: frozenset[str]) -> PairedSuite:
    """Leave out results beyond the unbroken beginning; shards may come back in any order."""
    candidate = replace(suite.candidate, results=tuple(r for r in suite.candidate.results if r.scenario in names))
    champion = suite.champion
    if champion is not None:
        champion = replace(champion, results=tuple(r for r in champion.results if r.scenario in names))
    return replace(suite, candidate=candidate, champion=champion)


def _judge(policy: GatePolicy, part: Part, suite: PairedSuite | None) -> PartVerdict:
    if suite is None:
        return _inconclusive(part, "the suite was not evaluated")
    if suite.champion is None and not isinstance(part, AbsoluteAtMost):
        return _inconclusive(part, "there is no champion to compare with and the policy has no rule for a first model")
    cases = in_order(suite)
    problem = trouble(suite, cases, policy.max_unusable)
    if problem:
        return _inconclusive(part, problem)
    try:
        found = _apply(part, rules.View(suite, cases, policy.alpha))
    except ValueError as error:
        return _inconclusive(part, str(error))
    return PartVerdict(part.suite, part.rule, found.verdict, found.because, found.figures)


def _apply(part: Part, view: rules.View) -> rules.Finding:
    match part:
        case NonInferior():
            return rules.non_inferior(part, view)
        case Improves():
            return rules.improves(part, view)
        case MeanRatioAtMost():
            return rules.mean_ratio_at_most(part, view)
        case ZeroTolerance():
            return rules.zero_tolerance(part, view)
        case AbsoluteAtMost():
            return rules.absolute_at_most(part, view)
        case _:
            assert_never(part)


def _inconclusive(part: Part, because: str) -> PartVerdict:
    return PartVerdict(part.suite, part.rule, Verdict.INCONCLUSIVE, because, {})


def _overall(policy: GatePolicy, parts: Sequence[PartVerdict]) -> tuple[Verdict, str]:
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        found = [part for part in parts if part.verdict is verdict]
        if found:
            reasons = "; ".join(f"{part.suite} ({part.rule}): {part.because}" for part in found)
            return verdict, f"{verdict}: {reasons}"
    if not parts:
        return Verdict.INCONCLUSIVE, "inconclusive: the policy has no rule that applies"
    return Verdict.PASS, f"pass: all {len(parts)} parts pass at alpha {policy.alpha:g}"


def _review(policy: GatePolicy, evidence: Sequence[PairedSuite]) -> tuple[Flip, ...]:
    found: list[Flip] = []
    for suite in evidence:
        try:
            found.extend(flips(suite, binary_pairs(in_order(suite), policy.metric)))
        except ValueError:  # the parts on this suite already say what is wrong with the metric
            continue
    return tuple(found)
