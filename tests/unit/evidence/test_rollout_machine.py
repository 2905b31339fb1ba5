"""A rollout lives through whatever may happen: ticks lost, repeated and out of order, a clock that jumps, people who
change their minds, devices that fail, fall silent and come back. What may never happen never does, and it always ends.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.evaluation.domain import Verdict
from control_plane.rollout.domain import (
    ENDS,
    NEXT,
    Complete,
    Decision,
    Deployments,
    Increment,
    Live,
    Offer,
    Phase,
    Plan,
    Quarantine,
    ReleaseRef,
    Rollout,
    Seen,
    Stage,
    Stratum,
    Wishes,
    Withdraw,
    decide,
    due_back,
    order_for,
    score,
    thresholds,
)

HALL = Stratum("hall", "amr")
DEVICES = [f"d{i}" for i in range(24)]
OLD, NEW = ReleaseRef("a" * 64, 1, 1, "old"), ReleaseRef("b" * 64, 1, 2, "new")
PLAN = Plan(
    (Stage(0.25, 40.0, 86_400.0), Stage(0.5, 80.0, 86_400.0, 5.0, must_prove=False), Stage(1.0, 1e6, 86_400.0)),
    max_failure_fraction=0.2,
    returns=(0.3, 1.0),
    return_s=3600.0,
)
T0 = datetime(2026, 1, 1, tzinfo=UTC)
WISHES = ("pause", "resume", "halt", "proceed", "extend", "preempt")
OPS = st.one_of(
    st.tuples(st.just("tick"), st.integers(0, 3), st.booleans()),  # how old what is seen, whether its actions are lost
    st.tuples(st.just("live"), st.integers(0, 5), st.sampled_from((0.0, 0.1, 0.9))),  # rate, failures
    st.tuples(st.just("clock"), st.sampled_from((-7200, -60, 30, 600, 90_000)), st.just(0)),
    st.tuples(
        st.just("wish"), st.sampled_from(("pause", "resume", "halt", "proceed", "extend", "preempt")), st.just(0)
    ),
)


@dataclass
class World:
    """Devices behind the real rule for orders, and the rollout's row; `runs` says what each device has."""

    rng: np.random.Generator
    rollout: Rollout = field(default_factory=lambda: Rollout(PLAN, gate_verdict=Verdict.PASS))
    now: datetime = T0
    wishes: Wishes = field(default_factory=lambda: Wishes(start=True))
    offering: bool = False
    preempted_by: str = ""
    runs: dict[str, str] = field(default_factory=lambda: dict.fromkeys(DEVICES, "old"))
    failed: set[str] = field(default_factory=set)
    apart: set[str] = field(default_factory=set)
    past: list[Seen] = field(default_factory=list)
    increments: list[Increment] = field(default_factory=list)
    completed: int = 0

    @property
    def limits(self) -> tuple[int, ...]:
        return thresholds("r", DEVICES, [stage.fraction for stage in PLAN.stages])

    @property
    def reached(self) -> list[str]:
        return [d for d in DEVICES if score("r", d) < self.limits[self.rollout.stage]]

    def see(self) -> Seen:
        holding = [d for d in DEVICES if self.runs[d] == "new" and d not in self.apart]
        share = self.rollout.returning
        devices = Deployments(
            len(self.reached),
            len(holding) + len(self.failed),
            sum(self.runs[d] == "new" for d in self.reached),
            len(self.failed),
        )
        return Seen(
            self.now,
            1,
            len(holding),
            devices,
            tuple(self.increments),
            (),
            self.wishes,
            due_back=len(due_back("r", holding, share)) if self.rollout.phase is Phase.HALTING else None,
            preempted_by=self.preempted_by,
        )

    def tick(self, age: int, *, lost: bool) -> None:
        self.past.append(self.see())
        seen = self.past[max(0, len(self.past) - 1 - age)]
        before, decision = self.rollout, decide(self.rollout, seen)
        self.check(before, decision, seen)
        self.rollout = decision.rollout
        # Row and actions are one transaction: what is lost is lost with the step that it belongs to.
        if lost:
            self.rollout = before
            return
        for action in decision.actions:
            self.obey(action)

    def check(self, before: Rollout, decision: Decision, seen: Seen) -> None:
        after = decision.rollout
        assert after.phase is before.phase or after.phase in NEXT[before.phase]
        assert before.stage <= after.stage <= before.stage + 1
        assert decision.because
        offers = [action for action in decision.actions if isinstance(action, Offer)]
        assert all(offer.stage == after.stage for offer in offers)
        if offers:
            assert after.phase is Phase.ROLLING
            assert (seen.wishes.halt, seen.wishes.pause, seen.preempted_by) == (False, False, "")
        if before.phase in ENDS:
            assert after == before
            assert decision.actions == ()
        if before.phase in {Phase.HALTING, Phase.HALTED}:
            assert not any(isinstance(action, Offer | Complete) for action in decision.actions)

    def obey(self, action: object) -> None:
        match action:
            case Offer():
                self.offering = True
            case Withdraw():
                self.offering = False
            case Complete():
                self.offering, self.completed = False, self.completed + 1
            case Quarantine():
                holding = [d for d in DEVICES if self.runs[d] == "new"]
                self.apart |= set(due_back("r", holding, self.rollout.returning))
            case _:
                pass

    def live_view(self) -> list[Live]:
        phase = self.rollout.phase
        if not self.offering and phase is not Phase.HALTING:
            return []
        returning = 0.0 if phase is Phase.PAUSED else None if self.offering else self.rollout.returning
        return [Live("r", NEW, {HALL: self.limits[self.rollout.stage]}, returning=returning)]

    def live(self, rate: int, failures: float) -> None:
        """Let some devices check in and obey, and all of them drive."""
        view = self.live_view()
        baseline = [NEW] if self.completed else [OLD]
        for device in DEVICES:
            if self.rng.random() < 0.4 or device in self.failed:
                continue
            known = [] if device in self.apart else view
            order = order_for(device, HALL, 0, known, baseline, self.runs[device])
            wanted = order.release.content_digest if order else "old"
            if wanted == "new" and self.runs[device] == "old":
                self.check_begin(device)
                if self.rng.random() < failures:
                    self.failed.add(device)
                    continue
            if device not in self.apart or self.rng.random() < 0.2:
                self.runs[device] = wanted
        canaries = sum(what == "new" for what in self.runs.values())
        hits = self.rng.poisson((0.02 * rate * canaries, 0.02 * (len(DEVICES) - canaries)))
        self.increments.append(
            Increment(len(self.increments), HALL, 0.2 * canaries, 0.2 * (24 - canaries), int(hits[0]), int(hits[1]))
        )
        self.now += timedelta(minutes=10)

    def check_begin(self, device: str) -> None:
        """A device begins only if the stage reaches it, and never once the release goes back or is paused."""
        if self.completed:
            return
        assert self.rollout.phase in {Phase.ROLLING, Phase.HELD}
        assert score("r", device) < self.limits[self.rollout.stage]
        assert device not in self.apart

    def wish(self, what: str) -> None:
        changes: dict[str, dict[str, object]] = {
            "pause": {"pause": True},
            "resume": {"pause": False},
            "halt": {"halt": True},
            "proceed": {"proceed_past": self.rollout.stage},
            "extend": {"extra_s": self.wishes.extra_s + 3600, "extra_exposure": self.wishes.extra_exposure + 20},
        }
        if what == "preempt":
            self.preempted_by = "roll_2"
        else:
            self.wishes = replace(self.wishes, **changes[what])  # type: ignore[arg-type] # fields by name


def play(world: World, ops: list[tuple[str, object, object]]) -> None:
    for what, one, two in ops:
        if what == "tick":
            world.tick(int(str(one)), lost=bool(two))
        elif what == "live":
            world.live(int(str(one)), float(str(two)))
        elif what == "clock":
            world.now += timedelta(seconds=float(str(one)))
        else:
            world.wish(str(one))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(OPS, max_size=40))
def test_whatever_happens_it_does_only_what_it_may_and_ends(seed: int, ops: list[tuple[str, object, object]]) -> None:
    world = World(np.random.default_rng(seed))
    play(world, ops)
    # From here on nobody interferes; a held rollout is answered, as a person would.
    world.wishes = replace(world.wishes, pause=False)
    for _ in range(200):
        if world.rollout.phase is Phase.HELD:
            world.wish("proceed")
        world.tick(0, lost=False)
        if world.rollout.phase in ENDS:
            break
        world.live(1, 0.0)
        world.now += timedelta(minutes=20)
    assert world.rollout.phase in ENDS, decide(world.rollout, world.see()).because
    if world.rollout.phase is Phase.HALTED:
        assert all(world.runs[d] == "old" or d in world.apart for d in DEVICES)
    assert (world.completed == 1) == (world.rollout.phase is Phase.DONE)
