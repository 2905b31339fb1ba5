"""From a policy, paired evidence and its context to one of three verdicts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from control_plane.evaluation.domain import guards, rules
from control_plane.evaluation.domain.attest import CLAIMS
from control_plane.evaluation.domain.finding import Finding, View
from control_plane.evaluation.domain.pairs import binary_pairs, flips, in_order, trouble
from control_plane.evaluation.domain.parts import (
    ALONE,
    GATE_WIDE,
    AbsoluteAtMost,
    Budget,
    CoverageAtLeast,
    GatePolicy,
    Improves,
    MeanRatioAtMost,
    NonInferior,
    NoOverlap,
    Part,
    Predictive,
    ReviewsClosed,
    ZeroTolerance,
)
from control_plane.evaluation.domain.questions import questions
from control_plane.evaluation.domain.values import (
    Context,
    Flip,
    GateDecision,
    HoldoutUse,
    PairedSuite,
    PartVerdict,
    Side,
    Stop,
    Verdict,
)

NOTHING = Context()


def decide_gate(policy: GatePolicy, evidence: Sequence[PairedSuite], context: Context = NOTHING) -> GateDecision:
    """Fail if any part fails, else inconclusive if any is, else pass. Nothing seen is never a pass."""
    if len({suite.suite for suite in evidence}) != len(evidence):
        raise ValueError("the evidence holds a suite twice")
    counted = {suite.suite: _counted(suite, context) for suite in evidence}
    found = _flips(policy, tuple(counted.values()))
    parts = tuple(part for part in _parts(policy, evidence) if _applies(part, context))
    verdicts = tuple(
        _gate_wide(part, context, found)
        if isinstance(part, GATE_WIDE)
        else _verdict(part, *_judge(policy, part, counted.get(part.suite), context))
        for part in parts
    )
    return GateDecision(*_overall(policy, verdicts, context), verdicts, found)


def stopping(policy: GatePolicy, suites: Sequence[PairedSuite], context: Context = NOTHING) -> tuple[Stop, ...]:
    """Say for each suite whether the results so far settle what the gate will say, however often it is asked.

    Settled is a suite when every part that looks at it has decided. All of them are when a guard has failed: then the
    gate fails whatever the rest would say. Once a claim (`improves`) has failed somewhere, no other claim matters any
    more, but guards go on: people may still want a candidate that is merely no better, and must know that it does no
    harm. Decisions do not come undone: each part keeps what it decided first.
    """
    found = [_findings(policy, suite, suites, context) for suite in suites]
    failed = [(p, f) for listed in found for p, f in listed if f.verdict is Verdict.FAIL]
    harm = next((f"{p.suite}: {f.because}" for p, f in failed if p.rule not in CLAIMS), None)
    if harm is not None:
        return tuple(Stop(True, harm, final=True) for _ in suites)
    moot = CLAIMS if failed else frozenset[str]()
    return tuple(
        _stop(
            suite, [(p, f) for p, f in listed if p.rule not in moot or f.verdict is not Verdict.INCONCLUSIVE], context
        )
        for suite, listed in zip(suites, found, strict=True)
    )


def _findings(
    policy: GatePolicy, suite: PairedSuite, suites: Sequence[PairedSuite], context: Context
) -> list[tuple[Part, Finding]]:
    parts = [part for part in _parts(policy, suites) if part.suite == suite.suite and _applies(part, context)]
    counted = _counted(suite, context)
    prefix = prefix_of(counted, len(in_order(counted)))
    return [(part, _judge(policy, part, prefix, context)[0]) for part in parts]


def _stop(suite: PairedSuite, found: Sequence[tuple[Part, Finding]], context: Context) -> Stop:
    if not found:
        return Stop(True, f"{suite.suite}: no rule of the gate still needs this suite")
    if all(finding.settled for _, finding in found):
        return Stop(True, f"{suite.suite}: {found[0][1].because}")
    suite = _counted(suite, context)
    cases = in_order(suite)
    if len(cases) == len(suite.scenarios):
        return Stop(True, f"{suite.suite}: every scenario has a result")
    if not cases:
        return Stop(False, f"{suite.suite}: there are no results yet")
    if all(finding.settled or finding.verdict is not Verdict.INCONCLUSIVE for _, finding in found):
        return Stop(True, f"{suite.suite}: {found[0][1].because}")
    return Stop(False, f"{suite.suite}: {len(cases)} of {len(suite.scenarios)} scenarios have results")


def _parts(policy: GatePolicy, evidence: Sequence[PairedSuite]) -> tuple[Part, ...]:
    first_ever = bool(evidence) and all(suite.champion is None for suite in evidence)
    return policy.first if first_ever and policy.first else policy.parts


def _applies(part: Part, context: Context) -> bool:
    """A budget of one device class says nothing about a gate that vouches for others."""
    if not isinstance(part, Budget) or part.device_class is None or not context.device_classes:
        return True
    return part.device_class in context.device_classes


def _counted(suite: PairedSuite, context: Context) -> PairedSuite:
    """Leave out incidents that do not happen again in simulation: they say nothing about either model."""
    out = set(context.left_out.get(suite.suite, ()))
    if not out:
        return suite
    kept = tuple(planned for planned in suite.scenarios if planned.cluster not in out)
    return _only(replace(suite, scenarios=kept), {p.scenario for p in suite.scenarios} - {p.scenario for p in kept})


def prefix_of(suite: PairedSuite, seen: int) -> PairedSuite:
    """Leave out results beyond the beginning: shards may come back in any order."""
    return _only(suite, {planned.scenario for planned in suite.scenarios[seen:]})


def _only(suite: PairedSuite, without: set[str]) -> PairedSuite:
    def side(given: Side) -> Side:
        return replace(given, results=tuple(r for r in given.results if r.scenario not in without))

    return replace(suite, candidate=side(suite.candidate), champion=suite.champion and side(suite.champion))


Judged = tuple[Finding, PartVerdict | None]
"""What a part finds; or what a hidden suite answered the first time, which stands."""


def _judge(policy: GatePolicy, part: Part, suite: PairedSuite | None, context: Context) -> Judged:
    if suite is None:
        return _open("the suite was not evaluated"), None
    hidden = _hidden(part, context.holdout.get(suite.suite))
    if hidden is not None:
        return hidden
    if suite.champion is None and not isinstance(part, ALONE):
        return _open("there is no champion to compare with and the policy has no rule for a first model"), None
    cases = in_order(suite)
    try:
        problem = trouble(suite, cases, policy.max_unusable)
        found = _open(problem) if problem else _apply(part, View(suite, cases, policy.alpha))
    except ValueError as error:
        found = _open(str(error))
    return replace(found, figures=found.figures | _left_out(suite, context)), None


def _hidden(part: Part, use: HoldoutUse | None) -> Judged | None:
    """A hidden suite answers each candidate once, and a line of candidates only so often."""
    if use is None:
        return None
    answered = next(
        (a for a in use.answers if (a.suite, a.rule, a.metric) == (part.suite, part.rule, _metric(part))), None
    )
    if answered is not None:
        return Finding(answered.verdict, answered.because, dict(answered.figures), settled=True), answered
    return (_open(_spent(use), settled=True), None) if use.spent else None


def _spent(use: HoldoutUse) -> str:
    return f"this hidden suite was looked at {use.uses} times, its budget is {use.budget}: draw a new one"


def _left_out(suite: PairedSuite, context: Context) -> dict[str, int]:
    out = context.left_out.get(suite.suite, ())
    return {"incidents_left_out": len(out)} if out else {}


def _apply(part: Part, view: View) -> Finding:  # noqa: PLR0911 - one line per rule
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
            return guards.absolute_at_most(part, view)
        case CoverageAtLeast():
            return guards.coverage_at_least(part, view)
        case Budget():
            return guards.budget(part, view)
        case ReviewsClosed() | NoOverlap() | Predictive():
            raise ValueError(f"{part.rule} looks at no single suite")
        case _:
            assert_never(part)


def _gate_wide(part: ReviewsClosed | NoOverlap | Predictive, context: Context, found: Sequence[Flip]) -> PartVerdict:
    match part:
        case ReviewsClosed():
            finding = guards.reviews_closed(context, tuple(q.subject for q in questions(found)))
        case NoOverlap():
            finding = guards.no_overlap(context)
        case Predictive():
            finding = guards.predictive(context)
        case _:
            assert_never(part)
    return _verdict(part, finding, None)


def _open(because: str, *, settled: bool = False) -> Finding:
    return Finding(Verdict.INCONCLUSIVE, because, {}, settled)


def _verdict(part: Part, found: Finding, answered: PartVerdict | None) -> PartVerdict:
    return answered or PartVerdict(part.suite, part.rule, found.verdict, found.because, found.figures, _metric(part))


def _metric(part: Part) -> str:
    return str(getattr(part, "metric", ""))


def _overall(policy: GatePolicy, parts: Sequence[PartVerdict], context: Context) -> tuple[Verdict, str]:
    doubt = context.trust is not None and context.trust.predictive is False
    warning = f" [{context.trust.because}]" if doubt and context.trust else ""
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        found = [part for part in parts if part.verdict is verdict]
        if found:
            reasons = "; ".join(f"{part.suite} ({part.rule.replace('_', ' ')}): {part.because}" for part in found)
            return verdict, f"{verdict}: {reasons}{warning}"
    if not parts:
        return Verdict.INCONCLUSIVE, "inconclusive: the policy has no rule that applies"
    return Verdict.PASS, f"pass: {_all(parts)} at alpha {policy.alpha:g}{warning}"


def _all(parts: Sequence[PartVerdict]) -> str:
    return "its only part passes" if len(parts) == 1 else f"all {len(parts)} parts pass"


def _flips(policy: GatePolicy, evidence: Sequence[PairedSuite]) -> tuple[Flip, ...]:
    """List scenarios in which the models differ, by the gate's own metric and by every grave one."""
    found: dict[tuple[str, str, bool], Flip] = {}
    for metric in (*policy.grave, policy.metric):
        for suite in evidence:
            try:
                listed = flips(suite, binary_pairs(in_order(suite), metric))
            except ValueError:  # the parts on this suite already say what is wrong with the metric
                continue
            for flip in listed:
                grave = metric in policy.grave
                found.setdefault((flip.suite, flip.scenario, flip.broke), replace(flip, metric=metric, grave=grave))
    return tuple(found.values())
