"""The words of a rollout: its plan, its state, what is seen of the world, what is decided."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from control_plane.evaluation.domain import Verdict
from control_plane.kit.statistics import UnitMoments
from control_plane.rollout.domain.windows import Window

MIN_SHARE = 0.01
HARM_RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
RETRY_CAUSES = ("not_listed", "not_approved")
"""Refusals that the server, not the release, is to blame for: metadata or approvals that came late."""


class Phase(StrEnum):
    DRAFT = "draft"
    WAITING_APPROVAL = "waiting_approval"
    ROLLING = "rolling"
    PAUSED = "paused"
    HELD = "held"
    HALTING = "halting"
    HALTED = "halted"
    DONE = "done"
    WITHDRAWN = "withdrawn"


NEXT: Mapping[Phase, frozenset[Phase]] = {
    Phase.DRAFT: frozenset({Phase.WAITING_APPROVAL, Phase.WITHDRAWN}),
    Phase.WAITING_APPROVAL: frozenset({Phase.ROLLING, Phase.WITHDRAWN}),
    Phase.ROLLING: frozenset({Phase.PAUSED, Phase.HELD, Phase.HALTING, Phase.DONE}),
    Phase.PAUSED: frozenset({Phase.ROLLING, Phase.HALTING}),
    Phase.HELD: frozenset({Phase.ROLLING, Phase.HALTING, Phase.DONE}),
    Phase.HALTING: frozenset({Phase.HALTED}),
    Phase.HALTED: frozenset(),
    Phase.DONE: frozenset(),
    Phase.WITHDRAWN: frozenset(),
}
ENDS = frozenset(phase for phase, following in NEXT.items() if not following)


class Gravest(StrEnum):
    """What an event of the gravest kind does: one halts; more than in control halts; or it counts like any other."""

    ANY = "any"
    EXCESS = "excess"
    OFF = "off"


class Control(StrEnum):
    """What a canary is compared with.

    `CONCURRENT`: other devices of its stratum, at the same time. `HISTORY`: its own past, for fleets too small to leave
    anybody out; blind to what changes for all at once. `BOTH`: each with half of alpha.
    """

    CONCURRENT = "concurrent"
    HISTORY = "history"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Watch:
    """One more count of events that may halt a rollout, with its own part of alpha."""

    name: str
    kinds: tuple[str, ...]
    share: float


@dataclass(frozen=True, slots=True)
class Stage:
    """A share of every stratum, and how much it must (and may at most) do before the next one.

    `must_prove`: only a shown non-inferiority (or a person) leads on; otherwise `min_exposure` without harm suffices.
    Exposure counts canary exposure since the stage began, in the unit of the increments.
    """

    fraction: float
    max_exposure: float
    deadline_s: float
    min_exposure: float = 0.0
    must_prove: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """How a release widens and what stops it.

    `margin`: the event rate may be at most (1 + margin) times control's. `gravest_share`: the part of alpha that
    watches the gravest kind under `Gravest.EXCESS`; `watch` takes further parts. `safe_state` must hold on a device
    before it switches; it must have run the candidate in shadow for `shadow_s`. `site_budget`: how many devices of a
    site may be in their trial at once; `cell_budget`: how many of those that share a value of the label `cell_label`.
    `windows`: when devices may switch. `frailty_floor`: the least variance between devices to assume. `settle_share`:
    the part of a stage's devices that must have settled. A device not heard of for `silence_s` (ten check-ins if unset)
    counts as failed. `unit`: of exposure, as the model's contract names it; "" in plans from before it was kept.
    `returns`: the shares in which devices are sent back; one that is not back after `return_s` is quarantined. A cause
    in `retry_causes` is not the release's fault: a device may meet it `retries` times before it counts as failed.
    """

    stages: tuple[Stage, ...]
    alpha: float = 0.05
    margin: float = 1.0
    harm_ratios: tuple[float, ...] = HARM_RATIOS
    gravest: Gravest = Gravest.ANY
    gravest_share: float = 0.2
    frailty_floor: float = 0.0
    max_failures: int = 0
    max_failure_fraction: float = 0.05
    approvals_needed: int = 1
    safe_state: str = ""
    shadow_s: float = 0.0
    site_budget: int | None = None
    cell_label: str = "cell"
    cell_budget: int | None = None
    windows: tuple[Window, ...] = ()
    watch: tuple[Watch, ...] = ()
    control: Control = Control.CONCURRENT
    settle_share: float = 1.0
    silence_s: float | None = None
    unit: str = ""
    returns: tuple[float, ...] = (0.25, 1.0)
    return_s: float = 3600.0
    retries: int = 2
    retry_causes: tuple[str, ...] = RETRY_CAUSES

    def __post_init__(self) -> None:
        wrong = next((said for said, holds in _demands(self) if not holds), None)
        if wrong:
            raise ValueError(wrong)

    @property
    def harm_share(self) -> float:
        """The part of alpha that is left for incidents, the first and main count."""
        grave = self.gravest_share if self.gravest is Gravest.EXCESS else 0.0
        return 1.0 - grave - sum(watch.share for watch in self.watch)


def _demands(plan: Plan) -> Iterator[tuple[str, bool]]:
    """What a plan must be, each with the sentence that says so."""
    fractions = [stage.fraction for stage in plan.stages]
    rising = bool(fractions) and fractions == sorted(set(fractions)) and 0 < fractions[0] <= fractions[-1] <= 1
    yield f"the stages' fractions must rise from above 0 to at most 1, not {fractions}", rising
    for stage in plan.stages:
        sound = 0 <= stage.min_exposure <= stage.max_exposure and stage.max_exposure > 0 and stage.deadline_s > 0
        yield f"a stage needs 0 <= min_exposure <= max_exposure and a deadline above 0: {stage}", sound
    alpha = 0 < plan.alpha <= 0.2 and plan.margin > 0 and 0 < plan.gravest_share < 1
    yield "a plan needs alpha in (0, 0.2], a margin above 0 and a gravest_share in (0, 1)", alpha
    shares = plan.harm_share >= MIN_SHARE and all(watch.share >= MIN_SHARE and watch.kinds for watch in plan.watch)
    yield f"a plan leaves each count at least {MIN_SHARE:g} of alpha, incidents too, and a watch names kinds", shares
    ratios = bool(plan.harm_ratios) and min(plan.harm_ratios) > 1
    yield f"harm ratios are above 1, not {list(plan.harm_ratios)}", ratios
    budget = plan.max_failures >= 0 and 0 <= plan.max_failure_fraction <= 1 and plan.frailty_floor >= 0
    yield "a plan's failure budget and frailty floor are not negative", budget and plan.retries >= 0
    yield "a plan needs approvals_needed of at least 0", plan.approvals_needed >= 0
    times = (plan.silence_s is None or plan.silence_s > 0) and plan.return_s > 0 and 0 < plan.settle_share <= 1
    yield "a plan needs silence_s and return_s above 0 and a settle_share in (0, 1]", times
    back = list(plan.returns)
    yield f"a plan's returns rise to 1, not {back}", back == sorted(set(back)) and back[-1:] == [1.0] and back[0] > 0


@dataclass(frozen=True, slots=True)
class Rollout:
    """The state of a rollout. `override_reason` is why a person started it although the gate did not pass."""

    plan: Plan
    phase: Phase = Phase.DRAFT
    stage: int = 0
    stage_since: datetime | None = None
    exposure_before: float = 0.0
    gate_verdict: Verdict | None = None
    override_reason: str = ""
    wave: int = 0
    wave_since: datetime | None = None

    @property
    def current(self) -> Stage:
        return self.plan.stages[self.stage]

    @property
    def returning(self) -> float:
        """The share of devices that are to go back by now."""
        return self.plan.returns[min(self.wave, len(self.plan.returns) - 1)]


@dataclass(frozen=True, slots=True, order=True)
class Stratum:
    site: str
    device_class: str


@dataclass(frozen=True, slots=True)
class Increment:
    """What canary and control of one stratum did in one slice of time; slices are numbered in time order."""

    bucket: int
    stratum: Stratum
    canary_exposure: float
    control_exposure: float
    canary_events: int
    control_events: int
    canary_gravest: int = 0
    control_gravest: int = 0
    canary_watched: tuple[int, ...] = ()
    control_watched: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ArmSpread:
    """Sums over the devices of each arm, from which the evidence learns how much devices differ."""

    stratum: Stratum
    canary: UnitMoments
    control: UnitMoments


@dataclass(frozen=True, slots=True)
class History:
    """What one device did before it switched and since, for a comparison with its own past."""

    device_id: str
    exposure_before: float
    events_before: int
    exposure: float
    events: int


@dataclass(frozen=True, slots=True)
class Deployments:
    """Devices of the stages so far: how many should have the release, and how far they are."""

    wanted: int = 0
    offered: int = 0
    committed: int = 0
    failed: int = 0
    reverted: int = 0
    silent: int = 0
    retrying: int = 0

    @property
    def bad(self) -> int:
        return self.failed + self.reverted + self.silent

    @property
    def settled(self) -> int:
        return self.committed + self.bad


@dataclass(frozen=True, slots=True)
class Wishes:
    """What people want; they stay true until changed. `proceed_past` is the stage a person lets pass without proof."""

    start: bool = False
    pause: bool = False
    halt: bool = False
    proceed_past: int | None = None
    extra_exposure: float = 0.0
    extra_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The whole present. `holding`: devices that were offered or run the release and have not gone back.

    `due_back`: those of them whose turn to go back it is (all, where nobody counted). `waits_for`: what release or way
    back still lack before a device would install them; "" if nothing. `preempted_by`: a newer rollout that takes this
    one's devices.
    """

    now: datetime
    approvals: int = 0
    holding: int = 0
    deployments: Deployments = Deployments()
    increments: Sequence[Increment] = ()
    spreads: tuple[ArmSpread, ...] = ()
    wishes: Wishes = Wishes()
    waits_for: str = ""
    due_back: int | None = None
    histories: tuple[History, ...] = ()
    preempted_by: str = ""
    has_way_back: bool = True


@dataclass(frozen=True, slots=True)
class Offer:
    """Every device of the stages up to this one is to be offered the release."""

    stage: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Nobody new is offered the release; this share of the devices that have it go back, the others when it grows."""

    share: float


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Devices whose turn to go back it was, and who did not come back in time."""


@dataclass(frozen=True, slots=True)
class Complete:
    pass


@dataclass(frozen=True, slots=True)
class AskPerson:
    """A question about this stage; asked again and again it is still one question."""

    stage: int
    question: str


Action = Offer | Withdraw | Quarantine | Complete | AskPerson


@dataclass(frozen=True, slots=True)
class Decision:
    rollout: Rollout
    because: str
    actions: tuple[Action, ...] = ()
    figures: Mapping[str, float | int | None] = field(default_factory=dict)
