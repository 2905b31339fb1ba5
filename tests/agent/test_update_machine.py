"""The machine alone, in a world that crashes at any step and changes its mind."""

from dataclasses import dataclass, field, replace

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agents.protocol.v1 import DeploymentPhase as P
from agents.update.machine import TABLE, Action, Decision, Policy, Seen, Slot, State, Target, decide

A = "a" * 64
Link = tuple[str, int, str]


def digest(number: int) -> str:
    return f"{number:064x}"


def target(counter: int, content: int | None = None) -> Target:
    return Target(digest(1000 + counter + (content or 0) * 100), 10, counter)


@dataclass
class World:
    """What the effects of the real shell would leave on a disk."""

    link: Link | None = None
    slots: dict[str, Link] = field(default_factory=dict)
    verified: set[Link] = field(default_factory=set)


class Device(RuleBasedStateMachine):
    """A crash is a rule that stops after the journal, before the effects; a restart forgets all findings."""

    def __init__(self) -> None:
        super().__init__()
        self.journal, self.world = State(), World()
        self.order: Target | None = None
        self.known = self.started = False
        self.fetched: int | None = None
        self.complete = False
        self.refusal: str | None = None
        self.qualified: bool | None = None
        self.health: bool | None = None
        self.heard: set[tuple[str, int]] = set()
        self.safe = self.fresh = True
        self.elapsed = 0.0
        self.restart()

    # The world.

    @rule(counter=st.integers(1, 8), content=st.integers(1, 3))
    def orders(self, counter: int, content: int) -> None:
        wanted = target(counter, content)
        if wanted != self.order:
            self.order, self.known = wanted, True
            self.forget_findings()

    @rule()
    def withdraws(self) -> None:
        self.order, self.known = None, True
        self.forget_findings()

    @rule(refused=st.booleans())
    def reads_the_release(self, refused: bool) -> None:
        wanted = self.journal.target
        if wanted is not None and self.journal.phase is P.DOWNLOADING:
            self.refusal = "wrong_device_class" if refused else None
            self.fetched = None if refused else (int(wanted.release_digest, 16) - 1000 - wanted.counter) // 100

    @precondition(lambda self: self.fetched is not None)
    @rule()
    def downloads(self) -> None:
        self.complete = True

    @precondition(lambda self: self.journal.phase is P.QUALIFYING)
    @rule(ok=st.booleans())
    def qualifies(self, ok: bool) -> None:
        self.qualified = ok

    @precondition(lambda self: self.journal.phase is P.TRIAL)
    @rule(ok=st.booleans())
    def speaks(self, ok: bool) -> None:
        # The application runs what the link points to and speaks of that alone.
        active, link = self.journal.active, self.world.link
        if active is not None and link == active.link:
            self.health = ok
            if ok:
                self.heard.add((active.content_digest, active.counter))

    @rule(safe=st.booleans(), fresh=st.booleans(), elapsed=st.sampled_from([0.0, 1000.0]))
    def time_passes(self, safe: bool, fresh: bool, elapsed: float) -> None:
        self.safe, self.fresh, self.elapsed = safe, fresh, elapsed

    # The shell.

    @rule()
    def restart(self) -> None:
        self.known, self.started = self.known and self.started, True
        self.forget_findings()

    @rule(effects=st.integers(0, 2))
    def steps_and_dies(self, effects: int) -> None:
        self.step(effects)
        self.known = False
        self.restart()

    @rule(effects=st.sampled_from([0, 99, 99, 99]), steps=st.integers(1, 6))
    def all_goes_well(self, effects: int, steps: int) -> None:
        """Without this rule few walks get as far as a trial; the last of its steps may be cut short."""
        for _ in range(steps):
            self.reads_the_release(refused=False)
            self.complete = self.fetched is not None
            if self.journal.phase is P.QUALIFYING:
                self.qualified = True
            self.safe = self.fresh = True
            self.elapsed = 0.0
            if self.journal.phase is P.TRIAL:
                self.speaks(ok=True)
            self.step(99)
        self.step(effects)

    def step(self, effects: int) -> Decision:
        before = self.journal
        decision = decide(before, self.seen(), Policy())
        assert decision.state.floor >= before.floor
        if decision.state != before or Action.SWITCH not in decision.actions:
            self.started = False
        self.journal = decision.state
        if decision.state.target != before.target:
            self.forget_findings()
        for action in decision.actions[:effects]:
            self.act(action)
        return decision

    def act(self, action: Action) -> None:
        slot = self.journal.candidate
        if action is Action.SWITCH:
            self.world.link = self.journal.active.link if self.journal.active else None
            self.health, self.elapsed = None, 0.0
        elif action is Action.STAGE and slot is not None:
            assert self.world.link is None or self.world.link[0] != slot.name, "the active slot is never written to"
            self.world.slots[slot.name] = slot.link
            self.world.verified.add(slot.link)

    def seen(self) -> Seen:
        candidate = self.journal.candidate
        return Seen(
            order=self.order,
            order_known=self.known,
            order_fresh=self.known and self.fresh,
            link=self.world.link,
            content_digest=None if self.fetched is None else digest(self.fetched),
            complete=self.complete,
            refusal=self.refusal,
            staged=candidate is not None and self.world.slots.get(candidate.name) == candidate.link,
            qualified=self.qualified,
            safe_to_switch=self.safe,
            health=self.health,
            trial_elapsed_s=self.elapsed,
            just_started=self.started,
        )

    def forget_findings(self) -> None:
        self.fetched = self.refusal = self.qualified = self.health = None
        self.complete = False

    # What must hold after every step and every crash.

    @invariant()
    def what_the_link_points_to_is_whole_and_verified(self) -> None:
        link = self.world.link
        assert link is None or self.world.slots.get(link[0]) == link

    @invariant()
    def a_fallback_is_whole_too(self) -> None:
        fallback = self.journal.fallback
        assert fallback is None or self.world.slots.get(fallback.name) == fallback.link

    @invariant()
    def committed_means_that_the_application_said_so(self) -> None:
        active = self.journal.active
        if self.journal.phase is P.COMMITTED and active is not None:
            assert (active.content_digest, active.counter) in self.heard
            assert self.journal.target is not None
            assert active.release_digest == self.journal.target.release_digest

    @invariant()
    def what_failed_is_not_tried_again(self) -> None:
        active = self.journal.active
        if self.journal.phase is P.TRIAL and active is not None:
            assert (active.content_digest, active.counter) not in self.journal.known_bad

    def teardown(self) -> None:
        """From anywhere, with a good release and no more crashes, every device ends where it should."""
        self.order, self.known = target(99, 7), True
        for _ in range(10):
            self.all_goes_well(99, 6)
            self.what_the_link_points_to_is_whole_and_verified()
        assert (self.journal.phase, self.journal.floor) == (P.COMMITTED, 99)
        assert self.world.link is not None
        assert self.world.link[1:] == (99, digest(7))


Device.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None, database=None)
TestDevice = Device.TestCase


ACTIVE = Slot("a", digest(1), A, 5)
RUNNING = State(phase=P.COMMITTED, target=Target(digest(1), 10, 5), active=ACTIVE, floor=5)


def seen(**changes: object) -> Seen:
    link = changes.pop("link", ACTIVE.link)
    return replace(Seen(order=RUNNING.target, order_known=True, order_fresh=True, link=link), **changes)  # type: ignore[arg-type]


def test_a_settled_device_does_nothing() -> None:
    assert decide(RUNNING, seen()) == Decision(RUNNING, "nothing to do")


def test_without_any_order_known_what_runs_goes_on() -> None:
    assert decide(RUNNING, seen(order=None, order_known=False)).state == RUNNING


def test_a_counter_below_the_floor_is_refused() -> None:
    decision = decide(RUNNING, seen(order=Target(digest(9), 10, 4)))
    assert (decision.state.phase, decision.state.reason) == (P.REFUSED, "counter_below_floor")
    assert decision.state.active == ACTIVE


def test_an_expired_order_waits_and_says_so() -> None:
    armed = replace(RUNNING, phase=P.ARMED, candidate=Slot("b", digest(1), digest(3), 6))
    decision = decide(armed, seen(order_fresh=False, staged=True))
    assert (decision.state.phase, decision.state.reason) == (P.ARMED, "order_expired")
    assert not decision.actions


def test_a_moving_robot_waits_and_says_so() -> None:
    armed = replace(RUNNING, phase=P.ARMED, candidate=Slot("b", digest(1), digest(3), 6))
    decision = decide(armed, seen(safe_to_switch=False, staged=True))
    assert (decision.state.phase, decision.state.reason) == (P.ARMED, "moving")
    first = replace(armed, active=None)
    assert decide(first, seen(safe_to_switch=False, staged=True, link=None)).state.phase is P.TRIAL


def trial(**changes: object) -> State:
    slot = Slot("b", digest(1), digest(3), 6)
    begun = replace(RUNNING, phase=P.TRIAL, active=slot, fallback=ACTIVE)
    return replace(begun, **changes)  # type: ignore[arg-type]


LINKED = ("b", 6, digest(3))


@pytest.mark.parametrize(
    ("changes", "phase", "reason"),
    [
        ({"health": True}, P.COMMITTED, None),
        ({"health": False}, P.REVERTED, "unhealthy"),
        ({"trial_elapsed_s": 1e4}, P.REVERTED, "no_health_report"),
        ({"trial_elapsed_s": 1.0}, P.TRIAL, "awaiting_health"),
        ({"order": None}, P.IDLE, "withdrawn"),
        ({"order": Target(digest(8), 10, 8)}, P.IDLE, "withdrawn"),
        ({"damaged": frozenset({LINKED})}, P.IDLE, "slot_damaged"),
    ],
)
def test_how_a_trial_ends(changes: dict[str, object], phase: P, reason: str | None) -> None:
    decision = decide(trial(), seen(link=LINKED, **changes))
    assert (decision.state.phase, decision.state.reason) == (phase, reason)
    back = phase in {P.REVERTED, P.IDLE}
    assert decision.state.active == (ACTIVE if back else trial().active)
    assert (Action.SWITCH in decision.actions) is back


def test_a_silent_trial_counts_as_good_only_where_no_evidence_is_required() -> None:
    decision = decide(trial(), seen(link=LINKED, trial_elapsed_s=1e4), Policy(health_required=False))
    assert (decision.state.phase, decision.state.reason) == (P.COMMITTED, "no_evidence_required")


def test_a_device_that_keeps_restarting_in_its_trial_goes_back() -> None:
    state = trial()
    for _ in range(2):
        state = decide(state, seen(link=LINKED, just_started=True)).state
        assert state.phase is P.TRIAL
    decision = decide(state, seen(link=LINKED, just_started=True, health=True))
    assert (decision.state.phase, decision.state.reason) == (P.REVERTED, "restarts")


def test_a_first_trial_that_fails_leaves_no_model() -> None:
    decision = decide(trial(fallback=None), seen(link=LINKED, health=False))
    assert decision.state.active is None


def test_a_failed_release_is_refused_until_its_counter_changes() -> None:
    failed = replace(RUNNING, phase=P.DOWNLOADING, known_bad=((digest(3), 6),), target=Target(digest(2), 10, 6))
    order = {"order": failed.target, "content_digest": digest(3)}
    assert decide(failed, seen(**order)).state.reason == "known_bad"
    again = replace(failed, target=Target(digest(4), 10, 7))
    order = {"order": again.target, "content_digest": digest(3), "complete": True}
    assert decide(again, seen(**order)).state.phase is P.VERIFIED


def test_going_back_takes_the_old_content_under_a_new_counter() -> None:
    order = Target(digest(77), 10, 9)
    state = decide(RUNNING, seen(order=order)).state
    state = decide(state, seen(order=order, content_digest=A, complete=True)).state
    assert state.candidate == Slot("b", digest(77), A, 9)


def test_the_slot_that_is_overwritten_is_no_fallback_any_more() -> None:
    loading = replace(
        RUNNING, phase=P.DOWNLOADING, target=Target(digest(2), 10, 6), fallback=Slot("b", digest(1), digest(8), 4)
    )
    state = decide(loading, seen(order=loading.target, content_digest=digest(3), complete=True)).state
    assert state.candidate == Slot("b", digest(2), digest(3), 6)
    assert state.fallback is None


def test_every_row_of_the_table_is_described_once() -> None:
    assert len({row.because for row in TABLE}) == len(TABLE)
