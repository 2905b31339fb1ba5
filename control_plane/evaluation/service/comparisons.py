"""Two versions over the scenarios that both were driven in: a mean over other scenarios would compare the scenarios."""

from collections.abc import Iterable, Sequence

from control_plane.evaluation import store
from control_plane.evaluation.models import Evaluation
from control_plane.evaluation.schemas import MetricPairItem, SuiteComparison
from control_plane.evaluation.service.suites import suite_names
from control_plane.kit.db import Session

LOOKED_AT = 200


async def compare(session: Session, first: str, second: str) -> list[SuiteComparison]:
    """Return by suite's name what both versions did in the newest suite of that name which both were driven in."""
    sides = [await store.evaluations_of(session, content, LOOKED_AT) for content in (first, second)]
    names = await suite_names(session, {e.suite for side in sides for e in side})
    newest: dict[str, tuple[Evaluation, Evaluation]] = {}
    for pair in _pairs(*sides):
        newest.setdefault(names.get(pair[0].suite, pair[0].suite), pair)
    return [await _compared(session, name, *newest[name]) for name in sorted(newest)]


def _pairs(first: Sequence[Evaluation], second: Iterable[Evaluation]) -> list[tuple[Evaluation, Evaluation]]:
    """Match evaluations of the same suite, the newest of the first side first."""
    others: dict[str, Evaluation] = {}
    for evaluation in second:
        others.setdefault(evaluation.suite, evaluation)
    return [(one, others[one.suite]) for one in first if one.suite in others]


async def _compared(session: Session, name: str, first: Evaluation, second: Evaluation) -> SuiteComparison:
    lines = await store.paired_means(session, first.id, second.id)
    metrics = [MetricPairItem.model_validate(dict(line)) for line in lines]
    return SuiteComparison(
        suite=first.suite,
        suite_name=name,
        first_scenarios=await store.count_cases(session, first.id),
        second_scenarios=await store.count_cases(session, second.id),
        common_scenarios=max((metric.scenarios for metric in metrics), default=0),
        metrics=metrics,
    )
