"""The update machine: one literal table, read top to bottom, first match wins. Pure.

`decide` looks at everything seen now and says what should be true next. It is level-triggered: a call lost, repeated or
cut short by a power cut changes nothing, because actions follow from the state and the world, not from the transition.
The shell writes the new state to the journal *before* it acts.

`State.active` is what the link must point to, also while a switch is still to be made: the row "the link is not what
the journal says" repairs every crash between the journal and the switch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from agents.protocol.v1 import DeploymentPhase

P = DeploymentPhase
KNOWN_BAD_MAX: Final = 64


@dataclass(frozen=True)
class Target:
    """The release the director ordered. How it is to be taken may change while it stays the same target."""

    release_digest: str
    size_bytes: int
    counter: int
    rollout_id: str | None = None
    stage_fraction: float | None = field(default=None, compare=False)
    safe_state: str | None = field(default=None, compare=False)
    site_free: bool | None = field(default=None, compare=False)
    shadow_s: float = field(default=0.0, compare=False)
    revision: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Slot:
    """A bundle in slot `name` (a or b)."""

    name: str
    release_digest: str
    content_digest: str
    counter: int

    @property
    def link(self) -> tuple[str, int, str]:
        return self.name, self.counter, self.content_digest


@dataclass(frozen=True)
class Policy:
    """What the operator of the device sets. Without `health_required` a silent trial counts as good.

    `shadow_s` is the least time a candidate runs beside the active model; an order may ask for more. `safe_state` is
    the device's own rule for switching; that of an order must hold as well.
    """

    trial_deadline_s: float = 300.0
    health_required: bool = True
    starts_max: int = 3
    shadow_s: float = 0.0
    safe_state: str = ""


@dataclass(frozen=True)
class State:
    """What the journal keeps. `fallback` is the other slot while it holds a bundle that once was good."""

    phase: DeploymentPhase = P.IDLE
    reason: str | None = None
    detail: str = ""
    target: Target | None = None
    candidate: Slot | None = None
    active: Slot | None = None
    fallback: Slot | None = None
    floor: int = 0
    starts: int = 0
    known_bad: tuple[tuple[str, int], ...] = ()
    qualification: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """Everything outside the journal, as it is now.

    `order_known`: a director manifest was accepted since the start; `order_fresh`: it has not expired.
    `revoked`: digests of contents and releases that must not run.
    `content_digest`: of the target's release, once its manifest was read and trusted. `complete`: its blobs are here.
    `refusal`: why the target must not be installed. `trouble`: why an action cannot finish now (it is tried again).
    `doing`: what the qualification is at, a code, and how far. `shadow_passed`: the shadow's verdict, if there is one.
    `waits_for`: what the safe state is missing, in words; empty where it holds or none is asked for.
    `site_free`: whether its site's budget lets this device out now.
    `health`: the application's word on the active model since the switch. `just_started`: first look of this process.
    """

    order: Target | None = None
    order_known: bool = False
    order_fresh: bool = False
    link: tuple[str, int, str] | None = None
    damaged: frozenset[tuple[str, int, str]] = frozenset()
    revoked: frozenset[str] = frozenset()
    content_digest: str | None = None
    complete: bool = False
    refusal: str | None = None
    refusal_detail: str = ""
    trouble: str | None = None
    trouble_detail: str = ""
    staged: bool = False
    qualified: bool | None = None
    qualification: Mapping[str, float] = field(default_factory=dict)
    qualification_reason: str = ""
    doing: tuple[str, str] | None = None
    shadow_passed: bool | None = None
    shadow: Mapping[str, float] = field(default_factory=dict)
    shadow_reason: str = ""
    shadow_detail: str = ""
    safe_to_switch: bool = True
    waits_for: tuple[str, ...] = ()
    site_free: bool = True
    health: bool | None = None
    health_reason: str = ""
    trial_elapsed_s: float = 0.0
    just_started: bool = False


class Action(str, Enum):
    """What the shell does; each is idempotent."""

    FETCH = "fetch"
    STAGE = "stage"
    QUALIFY = "qualify"
    SHADOW = "shadow"
    SWITCH = "switch"
    COLLECT = "collect"


@dataclass(frozen=True)
class Decision:
    state: State
    because: str
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of the table; `phases` None means any."""

    phases: frozenset[DeploymentPhase] | None
    because: str
    when: Callable[[State, Seen, Policy], bool]
    then: Callable[[State, Seen], State]
    actions: tuple[Action, ...] = ()


def decide(state: State, seen: Seen, policy: Policy | None = None) -> Decision:
    """Return what should be true next, why, and what to do about it."""
    rules = policy or Policy()
    for row in TABLE:
        if (row.phases is None or state.phase in row.phases) and row.when(state, seen, rules):
            return Decision(row.then(state, seen), row.because, row.actions)
    return Decision(state, "nothing to do")


# Conditions.


def _replaced(state: State, seen: Seen) -> bool:
    return seen.order_known and seen.order != state.target


def _ordered_anew(state: State, seen: Seen) -> bool:
    return _replaced(state, seen) and seen.order is not None


def _is_active(state: State, order: Target | None) -> bool:
    active = state.active
    return (
        active is not None
        and order is not None
        and (active.release_digest, active.counter) == (order.release_digest, order.counter)
    )


def shadow_s(target: Target | None, seen: Seen, policy: Policy) -> float:
    """Return how long the target must run in the shadow; the order's word may change on the way, the longer counts."""
    said = seen.order if seen.order == target else target
    return max(policy.shadow_s, said.shadow_s if said is not None else 0.0)


def _needs_shadow(state: State, seen: Seen, policy: Policy) -> bool:
    # Without an active model there is nothing to be compared with.
    return state.active is not None and shadow_s(state.target, seen, policy) > 0


def _bad_before(state: State, seen: Seen) -> bool:
    target = state.target
    return target is not None and (seen.content_digest or "", target.counter) in state.known_bad


# Next states.


def _same(state: State, _seen: Seen) -> State:
    return state


def _waits(reason: str | None) -> Callable[[State, Seen], State]:
    return lambda state, _seen: replace(state, reason=reason, detail="")


def _waits_for_safe_state(state: State, seen: Seen) -> State:
    return replace(state, reason="waiting_safe_state", detail="; ".join(seen.waits_for)[:300])


def _waits_for_trouble(state: State, seen: Seen) -> State:
    return replace(state, reason=seen.trouble, detail=seen.trouble_detail[:300])


def _cleared(state: State, phase: DeploymentPhase, target: Target | None, reason: str | None = None) -> State:
    return replace(
        state, phase=phase, reason=reason, detail="", target=target, candidate=None, starts=0, qualification={}
    )


def _drops_damaged_active(state: State, seen: Seen) -> State:
    fallback = state.fallback if state.fallback and state.fallback.link not in seen.damaged else None
    return replace(_cleared(state, P.IDLE, None, "slot_damaged"), active=fallback, fallback=None)


def _drops_fallback(state: State, _seen: Seen) -> State:
    return replace(state, fallback=None)


def _is_revoked(slot: Slot | None, seen: Seen) -> bool:
    return slot is not None and bool({slot.release_digest, slot.content_digest} & seen.revoked)


def _leaves_revoked(state: State, seen: Seen) -> State:
    fallback = None if _is_revoked(state.fallback, seen) else state.fallback
    left = replace(_remembers(state, state.active), active=fallback, fallback=None, candidate=None, starts=0)
    if not _is_active(state, state.target):
        # Another release is on its way, maybe the very cure: forgotten as a target, it is taken up as a new order.
        return _cleared(left, P.IDLE, None, "revoked")
    return replace(left, phase=P.REVERTED, reason="revoked", detail="the release was revoked")


def _refuses_revoked(state: State, _seen: Seen) -> State:
    return replace(state, phase=P.REFUSED, reason="revoked", detail="the release was revoked", candidate=None)


def _withdraws_trial(state: State, _seen: Seen) -> State:
    return replace(_cleared(state, P.IDLE, None, "withdrawn"), active=state.fallback, fallback=None)


def _forgets_target(state: State, _seen: Seen) -> State:
    return _cleared(state, P.IDLE, None)


def _refuses_low_counter(state: State, seen: Seen) -> State:
    return _cleared(state, P.REFUSED, seen.order, "counter_below_floor")


def _already_runs(state: State, seen: Seen) -> State:
    return _cleared(state, P.COMMITTED, seen.order)


def _starts_download(state: State, seen: Seen) -> State:
    return _cleared(state, P.DOWNLOADING, seen.order)


def _refuses(state: State, seen: Seen) -> State:
    return replace(state, phase=P.REFUSED, reason=seen.refusal, detail=seen.refusal_detail[:300])


def _refuses_known_bad(state: State, _seen: Seen) -> State:
    return replace(state, phase=P.REFUSED, reason="known_bad", detail="this content failed here under this counter")


def _chooses_slot(state: State, seen: Seen) -> State:
    target = state.target
    if target is None or seen.content_digest is None:
        return state
    name = "b" if state.active is not None and state.active.name == "a" else "a"
    candidate = Slot(name, target.release_digest, seen.content_digest, target.counter)
    # What stood in the other slot is overwritten: the fallback is from now on the active one alone.
    return replace(state, phase=P.VERIFIED, reason=None, detail="", candidate=candidate, fallback=None)


def _qualifies(state: State, _seen: Seen) -> State:
    return replace(state, phase=P.QUALIFYING, reason=None, detail="", starts=0)


def _counts_start(state: State, _seen: Seen) -> State:
    return replace(state, starts=state.starts + 1)


def _remembers(state: State, slot: Slot | None) -> State:
    if slot is None:
        return state
    key = (slot.content_digest, slot.counter)
    return replace(state, known_bad=(*(each for each in state.known_bad if each != key), key)[-KNOWN_BAD_MAX:])


def _refuses_crashing(state: State, _seen: Seen) -> State:
    return replace(_remembers(state, state.candidate), phase=P.REFUSED, reason="qualifying_crashed", candidate=None)


def _refuses_unqualified(state: State, seen: Seen) -> State:
    failed = replace(_remembers(state, state.candidate), qualification=dict(seen.qualification), candidate=None)
    return replace(failed, phase=P.REFUSED, reason="not_qualified", detail=seen.qualification_reason[:300])


def _arms(state: State, seen: Seen) -> State:
    return replace(state, phase=P.ARMED, reason=None, detail="", qualification=dict(seen.qualification))


def _waits_for_verdict(state: State, seen: Seen) -> State:
    if seen.trouble is not None or seen.doing is None:
        return _waits_for_trouble(state, seen)
    return replace(state, reason=seen.doing[0], detail=seen.doing[1][:300])


def _shadows(state: State, seen: Seen) -> State:
    return replace(_arms(state, seen), phase=P.SHADOW, reason="shadow_runs")


def _waits_for_shadow(state: State, seen: Seen) -> State:
    return replace(state, reason=seen.trouble or "shadow_runs", detail=seen.trouble_detail[:300])


def _with_shadow(state: State, seen: Seen) -> Mapping[str, float]:
    return {**state.qualification, **seen.shadow}


def _refuses_shadowed(state: State, seen: Seen) -> State:
    failed = replace(_remembers(state, state.candidate), qualification=_with_shadow(state, seen), candidate=None)
    return replace(failed, phase=P.REFUSED, reason=seen.shadow_reason, detail=seen.shadow_detail[:300])


def _arms_after_shadow(state: State, seen: Seen) -> State:
    return replace(state, phase=P.ARMED, reason=None, detail="", qualification=_with_shadow(state, seen))


def _begins_trial(state: State, _seen: Seen) -> State:
    return replace(
        state, phase=P.TRIAL, reason=None, detail="", starts=0,
        active=state.candidate, fallback=state.active, candidate=None,
    )  # fmt: skip


def _reverts(reason: str) -> Callable[[State, Seen], State]:
    def then(state: State, seen: Seen) -> State:
        failed = replace(_remembers(state, state.active), active=state.fallback, fallback=None, starts=0)
        return replace(failed, phase=P.REVERTED, reason=reason, detail=seen.health_reason[:300])

    return then


def _leaves_unhealthy(state: State, _seen: Seen) -> State:
    # Reason and detail are about the target, and that is another release.
    return replace(_remembers(state, state.active), active=state.fallback, fallback=None)


def _failed_later(state: State, seen: Seen, _policy: Policy) -> bool:
    # Without a fallback a model that runs badly is better than none: the application decides what it does with it.
    return seen.health is False and state.fallback is not None


def _commits(reason: str | None) -> Callable[[State, Seen], State]:
    def then(state: State, _seen: Seen) -> State:
        counter = state.active.counter if state.active else 0
        return replace(state, phase=P.COMMITTED, reason=reason, detail="", floor=max(state.floor, counter), starts=0)

    return then


def _in(*phases: DeploymentPhase) -> frozenset[DeploymentPhase]:
    return frozenset(phases)


_A = Action

# fmt: off
TABLE: Final[tuple[Row, ...]] = (
    # What holds in every phase.
    Row(None, "the active slot is damaged: back to the other one",
        lambda s, w, _p: s.active is not None and s.active.link in w.damaged, _drops_damaged_active, (_A.SWITCH,)),
    Row(None, "the fallback slot is damaged and is no fallback any more",
        lambda s, w, _p: s.fallback is not None and s.fallback.link in w.damaged, _drops_fallback),
    Row(None, "the active release was revoked: it is left at once",
        lambda s, w, _p: _is_revoked(s.active, w), _leaves_revoked, (_A.SWITCH,)),
    Row(None, "the fallback was revoked and is no fallback any more",
        lambda s, w, _p: _is_revoked(s.fallback, w), _drops_fallback),
    Row(None, "the release on its way here was revoked",
        lambda s, w, _p: _is_revoked(s.candidate, w), _refuses_revoked),
    Row(_in(P.TRIAL), "the order was withdrawn during the trial: back to the previous model",
        lambda s, w, _p: _replaced(s, w), _withdraws_trial, (_A.SWITCH,)),
    Row(None, "the link is not what the journal says: a switch was cut short",
        lambda s, w, _p: w.link != (s.active.link if s.active else None), _same, (_A.SWITCH,)),
    # Running: what was good in its trial may turn out bad.
    Row(_in(P.COMMITTED), "the application says later that the model does not run",
        _failed_later, _reverts("unhealthy_later"), (_A.SWITCH,)),
    Row(_in(P.IDLE, P.DOWNLOADING, P.REFUSED), "the application says that what runs does not: back to the model before",
        _failed_later, _leaves_unhealthy, (_A.SWITCH,)),
    # Another order.
    Row(None, "nothing is ordered: what runs goes on running",
        lambda s, w, _p: _replaced(s, w) and w.order is None, _forgets_target),
    Row(None, "the ordered counter is below the floor",
        lambda s, w, _p: _ordered_anew(s, w) and w.order is not None and w.order.counter < s.floor,
        _refuses_low_counter),
    Row(None, "the ordered release runs already",
        lambda s, w, _p: _ordered_anew(s, w) and _is_active(s, w.order), _already_runs),
    Row(None, "another release is ordered", lambda s, w, _p: _ordered_anew(s, w), _starts_download, (_A.FETCH,)),
    # Downloading.
    Row(_in(P.DOWNLOADING), "the release must not be installed", lambda _s, w, _p: w.refusal is not None, _refuses),
    Row(_in(P.DOWNLOADING), "this content failed here before under this counter",
        lambda s, w, _p: _bad_before(s, w), _refuses_known_bad),
    Row(_in(P.DOWNLOADING), "every file is here and verified",
        lambda _s, w, _p: w.complete and w.content_digest is not None, _chooses_slot, (_A.STAGE,)),
    Row(_in(P.DOWNLOADING), "files are missing", lambda _s, _w, _p: True, _waits_for_trouble, (_A.FETCH,)),
    # Verified: into the slot that is not active.
    Row(_in(P.VERIFIED), "the slot is written", lambda _s, w, _p: w.staged, _qualifies, (_A.QUALIFY,)),
    Row(_in(P.VERIFIED), "a file went missing before it was staged",
        lambda _s, w, _p: not w.complete, lambda s, _w: replace(s, phase=P.DOWNLOADING, candidate=None), (_A.FETCH,)),
    Row(_in(P.VERIFIED), "the slot is not written yet", lambda _s, _w, _p: True, _waits_for_trouble, (_A.STAGE,)),
    # Qualifying.
    Row(_in(P.QUALIFYING), "the agent died here too often",
        lambda s, w, p: w.just_started and s.starts + 1 >= p.starts_max, _refuses_crashing),
    Row(_in(P.QUALIFYING), "the agent started again while qualifying",
        lambda _s, w, _p: w.just_started, _counts_start, (_A.QUALIFY,)),
    Row(_in(P.QUALIFYING), "the model did not qualify on this device",
        lambda _s, w, _p: w.qualified is False, _refuses_unqualified),
    Row(_in(P.QUALIFYING), "the model qualified and is tried in the shadow of the active one",
        lambda s, w, p: w.qualified is True and _needs_shadow(s, w, p), _shadows, (_A.SHADOW,)),
    Row(_in(P.QUALIFYING), "the model qualified on this device", lambda _s, w, _p: w.qualified is True, _arms),
    Row(_in(P.QUALIFYING), "the model is being qualified",
        lambda _s, _w, _p: True, _waits_for_verdict, (_A.QUALIFY,)),
    # Shadow: it can block and lets go on; it never switches.
    Row(_in(P.SHADOW), "the slot vanished under the shadow", lambda _s, w, _p: not w.staged,
        lambda s, _w: replace(s, phase=P.VERIFIED, reason=None), (_A.STAGE,)),
    Row(_in(P.SHADOW), "the candidate did not do in the shadow what it should",
        lambda _s, w, _p: w.shadow_passed is False, _refuses_shadowed),
    Row(_in(P.SHADOW), "the candidate did in the shadow what it should",
        lambda _s, w, _p: w.shadow_passed is True, _arms_after_shadow),
    Row(_in(P.SHADOW), "no shadow is asked for any more",
        lambda s, w, p: not _needs_shadow(s, w, p), _arms_after_shadow),
    Row(_in(P.SHADOW), "the candidate runs in the shadow",
        lambda _s, _w, _p: True, _waits_for_shadow, (_A.SHADOW,)),
    # Armed: waiting for a safe state.
    Row(_in(P.ARMED), "the slot vanished", lambda _s, w, _p: not w.staged,
        lambda s, _w: replace(s, phase=P.VERIFIED, reason=None), (_A.STAGE,)),
    Row(_in(P.ARMED), "the order has expired: waiting for a fresh one",
        lambda _s, w, _p: not w.order_fresh, _waits("order_expired")),
    Row(_in(P.ARMED), "waiting for a safe state",
        lambda s, w, _p: s.active is not None and bool(w.waits_for), _waits_for_safe_state),
    Row(_in(P.ARMED), "waiting until the robot may switch",
        lambda s, w, _p: s.active is not None and not w.safe_to_switch, _waits("moving")),
    Row(_in(P.ARMED), "waiting until fewer devices of the site are out",
        lambda s, w, _p: s.active is not None and not w.site_free, _waits("waiting_site")),
    Row(_in(P.ARMED), "the trial begins", lambda _s, _w, _p: True, _begins_trial, (_A.SWITCH,)),
    # Trial.
    Row(_in(P.TRIAL), "the device started again too often during the trial",
        lambda s, w, p: w.just_started and s.starts + 1 >= p.starts_max, _reverts("restarts"), (_A.SWITCH,)),
    Row(_in(P.TRIAL), "the agent started again during the trial", lambda _s, w, _p: w.just_started, _counts_start),
    Row(_in(P.TRIAL), "the application says the model does not run",
        lambda _s, w, _p: w.health is False, _reverts("unhealthy"), (_A.SWITCH,)),
    Row(_in(P.TRIAL), "the application says the model runs",
        lambda _s, w, _p: w.health is True, _commits(None), (_A.COLLECT,)),
    Row(_in(P.TRIAL), "no word on the model's health before the deadline",
        lambda _s, w, p: w.trial_elapsed_s >= p.trial_deadline_s and p.health_required,
        _reverts("no_health_report"), (_A.SWITCH,)),
    Row(_in(P.TRIAL), "the trial ended without a complaint, and none is required",
        lambda _s, w, p: w.trial_elapsed_s >= p.trial_deadline_s, _commits("no_evidence_required"), (_A.COLLECT,)),
    Row(_in(P.TRIAL), "waiting for the application's word", lambda _s, _w, _p: True, _waits("awaiting_health")),
)
# fmt: on
