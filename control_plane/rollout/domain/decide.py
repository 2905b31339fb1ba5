"""From everything seen now to what should be true next. A lost or repeated call changes nothing."""

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from typing import assert_never

from control_plane.evaluation.domain import Verdict
from control_plane.kit.statistics import Interval
from control_plane.rollout.domain.evidence import Evidence, SequentialTest, weigh
from control_plane.rollout.domain.values import (
    Action,
    AskPerson,
    Complete,
    Decision,
    Gravest,
    Offer,
    Phase,
    Quarantine,
    Rollout,
    Seen,
    Withdraw,
)
from control_plane.rollout.domain.words import OVERRIDDEN, amount_of

NO_WAY_BACK = "withdrawn; nothing came before it, so devices that have it keep it until the next release"


class Step(Enum):
    WAIT = auto()
    ADVANCE = auto()
    HOLD = auto()


@dataclass(frozen=True, slots=True)
class World:
    """A rollout with everything seen of it, weighed."""

    rollout: Rollout
    seen: Seen
    evidence: Evidence

    @property
    def stage_exposure(self) -> float:
        return max(0.0, self.evidence.canary_exposure - self.rollout.exposure_before)

    @property
    def cap(self) -> float:
        return self.rollout.current.max_exposure + self.seen.wishes.extra_exposure

    @property
    def must_settle(self) -> int:
        """How many devices must have settled; one at least, or nobody would have shown anything."""
        return max(1, math.ceil(self.rollout.plan.settle_share * self.seen.deployments.wanted))

    @property
    def overdue(self) -> bool:
        allowed = timedelta(seconds=self.rollout.current.deadline_s + self.seen.wishes.extra_s)
        return self.rollout.stage_since is not None and self.seen.now - self.rollout.stage_since >= allowed

    def to(self, because: str, phase: Phase | None = None, actions: tuple[Action, ...] = ()) -> Decision:
        return self.answer(replace(self.rollout, phase=phase or self.rollout.phase), because, actions)

    def answer(self, rollout: Rollout, because: str, actions: tuple[Action, ...] = ()) -> Decision:
        figures = self.evidence.figures() | {"stage_exposure": self.stage_exposure, "stage_cap": self.cap}
        return Decision(rollout, because + _override(rollout), actions, figures)


def decide(rollout: Rollout, seen: Seen) -> Decision:
    """Say what should be true next, given everything that is true now."""
    world = World(rollout, seen, weigh(rollout.plan, seen.increments, seen.spreads, seen.histories))
    match rollout.phase:
        case Phase.DRAFT:
            return _draft(world)
        case Phase.WAITING_APPROVAL:
            return _waiting(world)
        case Phase.ROLLING | Phase.PAUSED | Phase.HELD:
            danger = _danger(world)
            if danger:
                return _begin_return(world, danger)
            return _alive(world)
        case Phase.HALTING:
            return _halting(world)
        case Phase.HALTED | Phase.DONE | Phase.WITHDRAWN:
            return world.to("finished")
        case _:
            assert_never(rollout.phase)


def _draft(world: World) -> Decision:
    if _is_called_off(world.seen):
        return world.to(_called_off(world.seen), Phase.WITHDRAWN)
    if not world.seen.wishes.start:
        return world.to("nobody has asked for it to start")
    return world.to("asked to start; waiting for the gate and for approvals", Phase.WAITING_APPROVAL)


def _is_called_off(seen: Seen) -> bool:
    return seen.wishes.halt or bool(seen.preempted_by)


def _called_off(seen: Seen) -> str:
    if seen.wishes.halt:
        return "withdrawn by a person before it began"
    return f"withdrawn before it began, for the newer rollout {seen.preempted_by}"


def _waiting(world: World) -> Decision:
    rollout, seen = world.rollout, world.seen
    if _is_called_off(seen):
        return world.to(_called_off(seen), Phase.WITHDRAWN)
    if rollout.gate_verdict is not Verdict.PASS and not rollout.override_reason:
        said = f"says {rollout.gate_verdict}" if rollout.gate_verdict else "has not decided"
        return world.to(f"the gate {said}; it must pass, or a person must override it and say why")
    if seen.approvals < rollout.plan.approvals_needed:
        return world.to(f"{seen.approvals} of {rollout.plan.approvals_needed} approvals")
    if seen.waits_for:
        return world.to(f"devices would refuse it: {seen.waits_for}")
    if seen.wishes.pause:
        return world.to("ready to begin, paused by a person")
    begun = _begin(world, 0)
    return world.answer(begun, f"begins with {begun.current.fraction:.0%} of every stratum", (Offer(0),))


def _begin(world: World, stage: int) -> Rollout:
    return replace(
        world.rollout,
        phase=Phase.ROLLING,
        stage=stage,
        stage_since=world.seen.now,
        exposure_before=world.evidence.canary_exposure,
    )


def _begin_return(world: World, because: str) -> Decision:
    back = replace(world.rollout, phase=Phase.HALTING, wave=0, wave_since=world.seen.now)
    return world.answer(back, because, (Withdraw(back.returning),))


def _danger(world: World) -> str | None:
    """Say why the release must go back, if it must; asked in every phase in which devices have it."""
    plan, evidence, seen = world.rollout.plan, world.evidence, world.seen
    if seen.wishes.halt:
        return "halted by a person"
    if seen.preempted_by:
        return f"pre-empted by the newer rollout {seen.preempted_by}"
    if plan.gravest is Gravest.ANY and evidence.canary_gravest:
        return f"{evidence.canary_gravest} events of the gravest kind on canary devices, none is allowed"
    crossed = next((test for test in evidence.harms if test.crossed), None)
    if crossed is not None:
        return _harmful(world, crossed)
    return _failing(world)


def _harmful(world: World, test: SequentialTest) -> str:
    shown = f"evidence {test.path.peak:.3g}, {test.needed:g} needed"
    if test.name == "harm":
        return f"canary is worse than control: {_counts(world)}, {shown}"
    if test.name == "gravest":
        return (
            f"{test.canary_events} events of the gravest kind on canary devices, significantly more than control: "
            f"{shown}"
        )
    if test.name == "history_harm":
        return f"devices do worse than in their own past: {test.canary_events} events since they switched, {shown}"
    name, evidence = test.name.removeprefix("watch_").replace("_", " "), world.evidence
    return (
        f"{name}: canary is worse than control, {test.canary_events} events in {_far(world, evidence.canary_exposure)} "
        f"against {test.control_events} in {_far(world, evidence.control_exposure)}, {shown}"
    )


def _failing(world: World) -> str | None:
    plan, devices = world.rollout.plan, world.seen.deployments
    allowed = max(plan.max_failures, int(plan.max_failure_fraction * devices.offered))
    if devices.bad <= allowed:
        return None
    return (
        f"{devices.bad} devices failed ({devices.failed}), went back ({devices.reverted}) "
        f"or are silent ({devices.silent}), {allowed} allowed"
    )


def _alive(world: World) -> Decision:
    rollout = world.rollout
    if world.seen.wishes.pause:
        if rollout.phase is Phase.HELD:
            return world.to("held, and paused by a person")
        return world.to("paused by a person", Phase.PAUSED)
    if rollout.phase is Phase.PAUSED:
        return world.to("resumed by a person", Phase.ROLLING)
    step, because = _stage(world)
    match step:
        case Step.ADVANCE:
            return _advance(world, because)
        case Step.HOLD:
            return world.to(because, Phase.HELD, (AskPerson(rollout.stage, because),))
        case Step.WAIT:
            short = world.seen.deployments.offered < world.seen.deployments.wanted
            offer: tuple[Action, ...] = (Offer(rollout.stage),) if short else ()
            return world.to(because, Phase.ROLLING, offer)
        case _:
            assert_never(step)


def _advance(world: World, because: str) -> Decision:
    following = world.rollout.stage + 1
    if following == len(world.rollout.plan.stages):
        return world.to(because, Phase.DONE, (Complete(),))
    begun = _begin(world, following)
    wider = f"{because}; widening to {begun.current.fraction:.0%} of every stratum"
    return world.answer(begun, wider, (Offer(following),))


def _stage(world: World) -> tuple[Step, str]:
    rollout, devices, stage = world.rollout, world.seen.deployments, world.rollout.current
    if world.seen.wishes.proceed_past == rollout.stage:
        return Step.ADVANCE, f"a person let stage {rollout.stage + 1} pass: {_interval(world.evidence.ratio)}"
    everyone = stage.fraction >= 1
    proved = everyone or not stage.must_prove or any(test.crossed for test in world.evidence.safes)
    settled = devices.wanted > 0 and devices.settled >= world.must_settle
    enough = everyone or world.stage_exposure >= stage.min_exposure
    if proved and settled and enough:
        return Step.ADVANCE, _why_on(world)
    if not proved and world.stage_exposure >= world.cap:
        return (
            Step.HOLD,
            f"undecided after {_far(world, world.stage_exposure)} of exposure: {_interval(world.evidence.ratio)}",
        )
    lacking = _lacking(world, proved=proved, settled=settled)
    if world.overdue:
        return (
            Step.HOLD,
            f"stage {rollout.stage + 1} is past its deadline: {lacking}; {_interval(world.evidence.ratio)}",
        )
    return Step.WAIT, lacking


def _why_on(world: World) -> str:
    stage, evidence = world.rollout.current, world.evidence
    if stage.fraction >= 1:
        return f"all {world.seen.deployments.wanted} devices have settled"
    if stage.must_prove:
        return f"canary is shown to be no worse: {_counts(world)}, {_interval(evidence.ratio)}"
    return f"{_far(world, world.stage_exposure)} of exposure without harm: {_counts(world)}"


def _lacking(world: World, *, proved: bool, settled: bool) -> str:
    devices, stage, evidence = world.seen.deployments, world.rollout.current, world.evidence
    if not devices.wanted:
        return "no device of the selection falls into this stage"
    if not settled:
        return f"{devices.settled} of {devices.wanted} devices have settled"
    if not proved:
        safe, harm = evidence.safe, evidence.harm
        return (
            f"watching: {_counts(world)}; evidence for no worse {safe.path.peak:.3g} of {safe.needed:g} and "
            f"for harm {harm.path.peak:.3g} of {harm.needed:g} needed"
        )
    return f"{_far(world, world.stage_exposure)} of {_far(world, stage.min_exposure)} exposure"


def _halting(world: World) -> Decision:
    """Send devices back wave by wave; whoever does not come back in time is set apart, so that there is an end."""
    rollout, seen = world.rollout, world.seen
    if not seen.holding:
        return world.to("every device is back" if seen.has_way_back else NO_WAY_BACK, Phase.HALTED)
    due = seen.holding if seen.due_back is None else seen.due_back
    last = rollout.wave >= len(rollout.plan.returns) - 1
    if due == 0 and not last:
        on = replace(rollout, wave=rollout.wave + 1, wave_since=seen.now)
        because = f"the first are back; {on.returning:.0%} of all devices go back now, {seen.holding} have it still"
        return world.answer(on, because, (Withdraw(on.returning),))
    actions: tuple[Action, ...] = (Withdraw(rollout.returning),)
    since = rollout.wave_since
    if due and since is not None and seen.now - since >= timedelta(seconds=rollout.plan.return_s):
        actions = (*actions, Quarantine())
        return world.to(f"{due} devices did not come back in time and are set apart", None, actions)
    return world.to(f"{seen.holding} devices still have the release, {due} of them are to go back now", None, actions)


def _counts(world: World) -> str:
    evidence = world.evidence
    return (
        f"{evidence.canary_events} events in {_far(world, evidence.canary_exposure)} against "
        f"{evidence.control_events} in {_far(world, evidence.control_exposure)}"
    )


def _far(world: World, exposure: float) -> str:
    return amount_of(exposure, world.rollout.plan.unit)


def _interval(ratio: Interval) -> str:
    if ratio.estimate is None:
        return "no event yet, so the rates cannot be compared"
    return f"canary's rate is {ratio.estimate:.2f} times control's ({ratio.low:.2f} to {ratio.high:.2f})"


def _override(rollout: Rollout) -> str:
    if rollout.gate_verdict is Verdict.PASS or not rollout.override_reason:
        return ""
    said = rollout.gate_verdict or "nothing"
    return f"{OVERRIDDEN}{said}; overridden: {rollout.override_reason}]"
