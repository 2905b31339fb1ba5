import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.evaluation.domain import Verdict
from control_plane.rollout.domain import (
    ENDS,
    NEXT,
    AskPerson,
    Complete,
    Decision,
    Deployments,
    Gravest,
    Increment,
    Offer,
    Phase,
    Plan,
    Rollout,
    Seen,
    Stage,
    Stratum,
    Watch,
    Wishes,
    Withdraw,
    decide,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
HALL, COLD = Stratum("hall", "amr"), Stratum("cold_store", "amr")
DAY = 86_400.0
PLAN = Plan((Stage(0.1, 50.0, DAY), Stage(0.5, 100.0, DAY, 5.0, must_prove=False), Stage(1.0, 1000.0, DAY)))
ROLLING = Rollout(PLAN, Phase.ROLLING, 0, T0, gate_verdict=Verdict.PASS)
SETTLED = Deployments(wanted=10, offered=10, committed=10)


def steps(canary: int, control: int, buckets: int = 10, gravest: int = 0) -> tuple[Increment, ...]:
    return tuple(Increment(i, HALL, 1.0, 9.0, canary, control, gravest if i == 0 else 0, 0) for i in range(buckets))


def seen(**known: object) -> Seen:
    return replace(Seen(T0 + timedelta(hours=1), approvals=1, holding=10, deployments=SETTLED), **known)  # type: ignore[arg-type]


counts = st.integers(0, 12)
increments = st.lists(
    st.builds(
        Increment,
        st.integers(0, 20),
        st.sampled_from((HALL, COLD)),
        st.sampled_from((0.0, 0.5, 3.0, 40.0)),
        st.sampled_from((0.0, 9.0, 90.0)),
        counts,
        counts,
        st.integers(0, 1),
        st.integers(0, 1),
    ),
    max_size=8,
).map(tuple)
wishes = st.builds(
    Wishes,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(0, 2),
    st.sampled_from((0.0, 100.0)),
    st.sampled_from((0.0, DAY)),
)
deployments = st.builds(Deployments, counts, counts, counts, counts, counts, counts)
worlds = st.tuples(
    st.builds(
        Rollout,
        st.sampled_from((PLAN, replace(PLAN, gravest=Gravest.EXCESS), replace(PLAN, gravest=Gravest.OFF))),
        st.sampled_from(Phase),
        st.integers(0, 2),
        st.none() | st.just(T0),
        st.sampled_from((0.0, 10.0)),
        st.none() | st.sampled_from(Verdict),
        st.sampled_from(("", "we know why")),
    ),
    st.builds(
        Seen,
        st.sampled_from((T0, T0 + timedelta(days=3))),
        st.integers(0, 2),
        counts,
        deployments,
        increments,
        st.just(()),
        wishes,
    ),
)


def unbegun(world: tuple[Rollout, Seen]) -> tuple[Rollout, Seen]:
    """A rollout that has not begun is in its first stage."""
    fresh = world[0].phase in {Phase.DRAFT, Phase.WAITING_APPROVAL}
    return (replace(world[0], stage=0), world[1]) if fresh else world


worlds = worlds.map(unbegun)


@given(worlds)
def test_only_legal_steps(world: tuple[Rollout, Seen]) -> None:
    before, after = world[0], decide(*world).rollout
    assert after.phase is before.phase or after.phase in NEXT[before.phase]
    assert before.stage <= after.stage <= before.stage + 1
    assert after.plan == before.plan


@given(worlds)
def test_ends_are_ends(world: tuple[Rollout, Seen]) -> None:
    rollout, now = world
    if rollout.phase in ENDS:
        decision = decide(rollout, now)
        assert (decision.rollout, decision.actions) == (rollout, ())


@given(worlds)
def test_nothing_is_offered_unless_it_rolls(world: tuple[Rollout, Seen]) -> None:
    decision = decide(*world)
    if any(isinstance(action, Offer) for action in decision.actions):
        assert decision.rollout.phase is Phase.ROLLING
        assert not world[1].wishes.halt
        assert not world[1].wishes.pause
    if decision.rollout.phase in {Phase.HALTING, Phase.HALTED}:
        assert all(isinstance(action, Withdraw) for action in decision.actions)


@given(worlds)
def test_the_same_world_has_the_same_answer_and_late_order_changes_nothing(world: tuple[Rollout, Seen]) -> None:
    rollout, now = world
    assert decide(rollout, now) == decide(rollout, now)
    once = {(step.bucket, step.stratum): step for step in now.increments}
    ordered = replace(now, increments=tuple(once.values()))
    backwards = replace(ordered, increments=ordered.increments[::-1])
    assert decide(rollout, ordered).rollout == decide(rollout, backwards).rollout


@given(worlds)
def test_harm_stops_it_in_every_phase_in_which_devices_have_it(world: tuple[Rollout, Seen]) -> None:
    rollout, now = world
    if rollout.phase in {Phase.ROLLING, Phase.PAUSED, Phase.HELD}:
        harmful = replace(now, increments=(*now.increments, *steps(40, 40)))
        assert decide(rollout, harmful).rollout.phase is Phase.HALTING


@given(worlds)
def test_every_answer_has_a_reason_and_begins_only_with_gate_or_override(world: tuple[Rollout, Seen]) -> None:
    rollout, decision = world[0], decide(*world)
    assert decision.because
    if rollout.phase is Phase.WAITING_APPROVAL and decision.rollout.phase is Phase.ROLLING:
        assert rollout.gate_verdict is Verdict.PASS or rollout.override_reason
        assert world[1].approvals >= rollout.plan.approvals_needed
    if rollout.override_reason and rollout.gate_verdict is not Verdict.PASS:
        assert "overridden: we know why" in decision.because


def test_from_draft_to_rolling() -> None:
    draft = Rollout(PLAN)
    asked = decide(draft, seen(wishes=Wishes(start=True))).rollout
    assert asked.phase is Phase.WAITING_APPROVAL
    assert "has not decided" in decide(asked, seen()).because
    failed = replace(asked, gate_verdict=Verdict.FAIL)
    assert decide(failed, seen()).rollout == failed
    passed = replace(asked, gate_verdict=Verdict.PASS)
    assert decide(passed, seen(approvals=0)).because == "0 of 1 approvals"
    begun = decide(passed, seen())
    assert (begun.rollout.phase, begun.actions) == (Phase.ROLLING, (Offer(0),))
    assert begun.rollout.stage_since == seen().now


def test_an_override_is_said_every_time() -> None:
    begun = decide(
        Rollout(PLAN, Phase.WAITING_APPROVAL, gate_verdict=Verdict.FAIL, override_reason="sensor recall"), seen()
    )
    assert begun.rollout.phase is Phase.ROLLING
    assert "[the gate said fail; overridden: sensor recall]" in begun.because
    assert "sensor recall" in decide(begun.rollout, seen()).because


def test_shown_to_be_no_worse_widens() -> None:
    decision = decide(ROLLING, seen(increments=steps(2, 18, 20)))
    assert (decision.rollout.stage, decision.actions) == (1, (Offer(1),))
    assert decision.rollout.exposure_before == 20.0
    assert "no worse" in decision.because


def test_an_unproved_stage_goes_on_watching_and_offers_what_is_missing() -> None:
    assert decide(ROLLING, seen(increments=steps(1, 9, 3))).actions == ()
    short = decide(ROLLING, seen(deployments=Deployments(wanted=10, offered=4)))
    assert short.actions == (Offer(0),)
    assert "0 of 10 devices have settled" in short.because


def test_a_stage_without_proof_needs_its_exposure() -> None:
    second = replace(ROLLING, stage=1, exposure_before=20.0)
    assert decide(second, seen(increments=steps(2, 18, 22))).rollout.stage == 1
    assert decide(second, seen(increments=steps(2, 18, 26))).rollout.stage == 2


def test_everyone_is_done_when_all_have_settled() -> None:
    last = replace(ROLLING, stage=2)
    assert decide(last, seen(deployments=replace(SETTLED, committed=9))).rollout.phase is Phase.ROLLING
    decision = decide(last, seen())
    assert (decision.rollout.phase, decision.actions) == (Phase.DONE, (Complete(),))


def test_undecided_at_its_cap_is_held_for_a_person_until_somebody_says_what_to_do() -> None:
    undecided = seen(increments=tuple(Increment(i, HALL, 6.0, 54.0, i % 2, 4) for i in range(9)))
    held = decide(ROLLING, undecided)
    assert held.rollout.phase is Phase.HELD
    assert isinstance(held.actions[0], AskPerson)
    assert "times control's" in held.because
    assert decide(held.rollout, undecided) == held
    more = decide(held.rollout, replace(undecided, wishes=Wishes(extra_exposure=100.0)))
    assert more.rollout.phase is Phase.ROLLING
    passed = decide(held.rollout, replace(undecided, wishes=Wishes(proceed_past=0)))
    assert (passed.rollout.phase, passed.rollout.stage) == (Phase.ROLLING, 1)
    assert decide(held.rollout, replace(undecided, wishes=Wishes(halt=True))).rollout.phase is Phase.HALTING


def test_past_its_deadline_is_held() -> None:
    late = seen(now=T0 + timedelta(days=2), deployments=Deployments(wanted=10, offered=10, committed=7))
    decision = decide(ROLLING, late)
    assert decision.rollout.phase is Phase.HELD
    assert "7 of 10 devices" in decision.because
    assert decide(decision.rollout, replace(late, wishes=Wishes(extra_s=2 * DAY))).rollout.phase is Phase.ROLLING


@pytest.mark.parametrize(
    ("world", "said"),
    [
        (seen(increments=steps(5, 18)), "worse than control"),
        (seen(wishes=Wishes(halt=True)), "by a person"),
        (seen(deployments=replace(SETTLED, committed=9, failed=1)), r"failed \(1\)"),
        (seen(deployments=replace(SETTLED, committed=9, silent=1)), r"silent \(1\)"),
        (seen(increments=steps(0, 0, 1, gravest=1)), "gravest kind"),
    ],
)
def test_what_halts(world: Seen, said: str) -> None:
    for phase in (Phase.ROLLING, Phase.PAUSED, Phase.HELD):
        decision = decide(replace(ROLLING, phase=phase), world)
        assert decision.rollout.phase is Phase.HALTING
        assert decision.actions == (Withdraw(0.25),)
        assert re.search(said, decision.because)


def test_gravest_events_by_excess_only_count_against_control() -> None:
    rollout = replace(ROLLING, plan=replace(PLAN, gravest=Gravest.EXCESS))
    usual = tuple(Increment(i, HALL, 1.0, 9.0, 1, 9, 1, 9) for i in range(5))
    excess = tuple(Increment(i, HALL, 1.0, 9.0, 1, 9, 3, 3) for i in range(5))
    assert decide(rollout, seen(increments=usual)).rollout.phase is Phase.ROLLING
    assert "significantly more" in decide(rollout, seen(increments=excess)).because


def test_halting_waits_for_the_last_device() -> None:
    halting = replace(ROLLING, phase=Phase.HALTING)
    assert decide(halting, seen(holding=3)).actions == (Withdraw(0.25),)
    assert decide(halting, seen(holding=0)).rollout.phase is Phase.HALTED


def test_pause_and_resume() -> None:
    paused = decide(ROLLING, seen(wishes=Wishes(pause=True)))
    assert paused.rollout.phase is Phase.PAUSED
    assert decide(paused.rollout, seen(wishes=Wishes(pause=True))).rollout.phase is Phase.PAUSED
    assert decide(paused.rollout, seen()).rollout.phase is Phase.ROLLING


def test_an_event_that_came_before_its_exposure_is_not_lost() -> None:
    early = (Increment(0, HALL, 0.0, 9.0, 30, 0), *(Increment(i, HALL, 1.0, 9.0, 1, 9) for i in range(1, 6)))
    assert decide(ROLLING, seen(increments=early)).rollout.phase is Phase.HALTING


def test_two_devices_at_a_bad_site_do_not_accuse_the_release() -> None:
    mixed = (
        *(Increment(i, COLD, 9.0, 1.0, 45, 5) for i in range(5)),
        *(Increment(i, HALL, 1.0, 9.0, 0, 5) for i in range(5)),
    )
    assert decide(ROLLING, seen(increments=mixed)).rollout.phase is Phase.ROLLING


@pytest.mark.parametrize(
    "wrong",
    [
        {"stages": ()},
        {"stages": (Stage(0.5, 1, 1), Stage(0.5, 1, 1))},
        {"stages": (Stage(0.0, 1, 1),)},
        {"stages": (Stage(1.5, 1, 1),)},
        {"stages": (Stage(0.5, 1, 1, 2),)},
        {"alpha": 0.5},
        {"margin": 0},
        {"harm_ratios": (0.9, 2.0)},
        {"max_failures": -1},
        {"returns": (0.5,)},
        {"silence_s": 0},
        {"watch": (Watch("brakes", ("hard_brake",), 0.999),)},
        {"settle_share": 0},
    ],
)
def test_a_senseless_plan_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"a plan|a stage|fractions|harm ratios"):
        replace(PLAN, **wrong)  # type: ignore[arg-type]


def test_figures_can_be_written_as_json() -> None:
    decision = decide(ROLLING, seen(increments=steps(0, 0)))
    assert isinstance(decision, Decision)
    assert decision.figures["ratio_high"] is None
    assert decision.figures["stage_exposure"] == 10.0
