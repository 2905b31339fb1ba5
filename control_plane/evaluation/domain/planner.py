"""Before anything is simulated: how many scenarios each part needs, and whether the suite has them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control_plane.evaluation.domain.finding import SEQUENTIAL_SHARE
from control_plane.evaluation.domain.parts import (
    GATE_WIDE,
    AbsoluteAtMost,
    Budget,
    CoverageAtLeast,
    GatePolicy,
    Improves,
    NonInferior,
    Part,
)
from control_plane.evaluation.domain.values import PlannedScenario
from control_plane.kit.betting import margin_detectable, pairs_to_bet, pairs_to_tell, power_of_pairs
from control_plane.kit.statistics import pairs_needed


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is believed before the run: shares of scenarios that break and mend when equal, and when improved."""

    broke: float = 0.005
    fixed: float = 0.005
    improvement: float = 0.1
    failure_rate: float = 0.03
    power: float = 0.8


@dataclass(frozen=True, slots=True)
class PartPlan:
    """`planned` and `needed` count independent scenarios; `typical` is how many usually settle it at an early look.

    None: not for this part to say.
    """

    suite: str
    rule: str
    metric: str
    planned: int
    needed: int | None
    typical: int | None
    power: float | None
    margin_detectable: float | None
    enough: bool
    because: str


def plan_gate(
    policy: GatePolicy, suites: Mapping[str, Sequence[PlannedScenario]], assumptions: Assumptions
) -> tuple[PartPlan, ...]:
    """Plan every part over the suites there are.

    Raises:
        ValueError: the assumptions are impossible.
    """
    shares = (assumptions.broke, assumptions.fixed, assumptions.improvement, assumptions.failure_rate)
    if not all(0 <= share < 1 for share in shares) or assumptions.broke + assumptions.fixed >= 1:
        raise ValueError("assumed shares of scenarios must lie between 0 and 1, and what flips below 1 together")
    if not 0.5 <= assumptions.power < 1:
        raise ValueError(f"the assumed power is {assumptions.power:g}, it must lie between 0.5 and 1")
    return tuple(_plan(policy, part, suites.get(part.suite), assumptions) for part in policy.parts)


def _plan(  # noqa: PLR0911 - one line per kind of rule
    policy: GatePolicy, part: Part, scenarios: Sequence[PlannedScenario] | None, assumed: Assumptions
) -> PartPlan:
    if isinstance(part, GATE_WIDE):
        return _line(part, 0, None, because="looks at no suite")
    if scenarios is None:
        return _line(part, 0, None, because="there is no such suite yet", enough=False)
    blocks = len({planned.block for planned in scenarios})
    if isinstance(part, NonInferior):
        return _no_worse(policy, part, blocks, assumed)
    if isinstance(part, Improves):
        return _better(policy, part, blocks, assumed)
    if isinstance(part, CoverageAtLeast):
        return _covered(part, scenarios)
    if isinstance(part, AbsoluteAtMost):
        return _share(part, blocks, part.bound, assumed.failure_rate, policy.alpha, assumed)
    if isinstance(part, Budget) and part.quantile is not None:
        return _share(part, blocks, 1 - part.quantile, 0.0, policy.alpha, assumed)
    return _line(part, blocks, None, because="depends on how much the metric varies, which nobody knows beforehand")


def _no_worse(policy: GatePolicy, part: NonInferior, blocks: int, assumed: Assumptions) -> PartPlan:
    alpha = policy.alpha if part.once else policy.alpha * (1 - SEQUENTIAL_SHARE)
    flips = assumed.broke + assumed.fixed
    needed = pairs_needed(flips, part.margin, alpha, assumed.power)
    typical = pairs_to_bet(assumed.broke, assumed.fixed, part.margin, policy.alpha * SEQUENTIAL_SHARE, 0.5)
    power, margin = power_of_pairs(blocks, flips, part.margin, alpha), margin_detectable(blocks, flips, alpha, 0.8)
    because = f"{blocks} independent scenarios can show equal models to be within {100 * margin:.1f} points"
    return _line(part, blocks, needed, None if part.once else typical, power, margin, because)


def _better(policy: GatePolicy, part: Improves, blocks: int, assumed: Assumptions) -> PartPlan:
    gain = assumed.fixed + assumed.improvement
    needed = pairs_to_tell(assumed.broke, gain, policy.alpha, assumed.power)
    typical = pairs_to_tell(assumed.broke, gain, policy.alpha, 0.5)
    because = f"for an improvement by {100 * assumed.improvement:.1f} points"
    return _line(part, blocks, needed, typical, None, None, because)


def _share(
    part: AbsoluteAtMost | Budget, blocks: int, bound: float, rate: float, alpha: float, assumed: Assumptions
) -> PartPlan:
    """A share below a bound is a difference to nothing below a margin."""
    if not 0 < bound < 1 or rate >= bound:
        return _line(part, blocks, None, because=f"cannot pass while the true figure is {rate:g}", enough=rate < bound)
    needed = pairs_to_bet(rate, 0.0, bound, alpha * SEQUENTIAL_SHARE, assumed.power)
    typical = pairs_to_bet(rate, 0.0, bound, alpha * SEQUENTIAL_SHARE, 0.5)
    return _line(part, blocks, needed, typical, None, None, f"for a true share of {rate:g} against {bound:g}")


def _covered(part: CoverageAtLeast, scenarios: Sequence[PlannedScenario]) -> PartPlan:
    short = []
    for name, floor in part.floors:
        count = sum(set(name.split("+")) <= set(planned.tags) for planned in scenarios)
        if count < floor:
            short.append(f"{name} ({count} of {floor})")
    because = f"the suite holds too few of {', '.join(short)}" if short else "the suite holds all that is asked for"
    return _line(part, len(scenarios), None, because=because, enough=not short)


def _line(
    part: Part,
    planned: int,
    needed: float | None,
    typical: float | None = None,
    power: float | None = None,
    margin: float | None = None,
    because: str = "",
    *,
    enough: bool | None = None,
) -> PartPlan:
    whole = _whole(needed)
    said = enough if enough is not None else needed is None or (whole is not None and planned >= whole)
    name = str(getattr(part, "metric", ""))
    return PartPlan(part.suite, part.rule, name, planned, whole, _whole(typical), power, margin, said, because)


def _whole(number: float | None) -> int | None:
    return None if number is None or math.isinf(number) else math.ceil(number)
