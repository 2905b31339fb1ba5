"""The words of a rollout: its plan, its state, what is seen of the world, what is decided."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from control_plane.evaluation.domain import Verdict
from control_plane.kit.statistics import UnitMoments


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
    watches the gravest kind under `Gravest.EXCESS`. `safe_state` must hold on a device before it switches; it must have
    run the candidate in shadow for `shadow_s`. `site_budget`: how many devices of a site may be in their trial at once.
    `frailty_floor`: the least variance between devices to assume.
    """

    stages: tuple[Stage, ...]
    alpha: float = 0.05
    margin: float = 1.0
    harm_ratios: tuple[float, ...] = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
    gravest: Gravest = Gravest.ANY
    gravest_share: float = 0.2
    frailty_floor: float = 0.0
    max_failures: int = 0
    max_failure_fraction: float = 0.05
    approvals_needed: int = 1
    withdraw_at_once: int = 100
    safe_state: str = ""
    shadow_s: float = 0.0
    site_budget: int | None = None

    def __post_init__(self) -> None:
        fractions = [stage.fraction for stage in self.stages]
        if not fractions or fractions != sorted(set(fractions)) or not 0 < fractions[0] <= fractions[-1] <= 1:
            raise ValueError(f"the stages' fractions must rise from above 0 to at most 1, not {fractions}")
        for stage in self.stages:
            if not 0 <= stage.min_exposure <= stage.max_exposure or stage.max_exposure <= 0 or stage.deadline_s <= 0:
                raise ValueError(f"a stage needs 0 <= min_exposure <= max_exposure and a deadline above 0: {stage}")
        if not 0 < self.alpha <= 0.2 or self.margin <= 0 or not 0 < self.gravest_share < 1:
            raise ValueError("a plan needs alpha in (0, 0.2], a margin above 0 and a gravest_share in (0, 1)")
        if not self.harm_ratios or min(self.harm_ratios) <= 1:
            raise ValueError(f"harm ratios are above 1, not {list(self.harm_ratios)}")
        if self.max_failures < 0 or not 0 <= self.max_failure_fraction <= 1 or self.frailty_floor < 0:
            raise ValueError("a plan's failure budget and frailty floor are not negative")
        if self.approvals_needed < 0 or self.withdraw_at_once < 1:
            raise ValueError("a plan needs approvals_needed of at least 0 and withdraw_at_once of at least 1")


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

    @property
    def current(self) -> Stage:
        return self.plan.stages[self.stage]


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


@dataclass(frozen=True, slots=True)
class ArmSpread:
    """Sums over the devices of each arm, from which the evidence learns how much devices differ."""

    stratum: Stratum
    canary: UnitMoments
    control: UnitMoments


@dataclass(frozen=True, slots=True)
class Deployments:
    """Devices of the stages so far: how many should have the release, and how far they are."""

    wanted: int = 0
    offered: int = 0
    committed: int = 0
    failed: int = 0
    reverted: int = 0
    silent: int = 0

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

    `waits_for`: what release or way back still lack before a device would install them; "" if nothing.
    """

    now: datetime
    approvals: int = 0
    holding: int = 0
    deployments: Deployments = Deployments()
    increments: tuple[Increment, ...] = ()
    spreads: tuple[ArmSpread, ...] = ()
    wishes: Wishes = Wishes()
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """Every device of the stages up to this one is to be offered the release."""

    stage: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Nobody is offered the release any more; devices that have it go back, `at_once` at a time."""

    at_once: int


@dataclass(frozen=True, slots=True)
class Complete:
    pass


@dataclass(frozen=True, slots=True)
class AskPerson:
    """A question about this stage; asked again and again it is still one question."""

    stage: int
    question: str


Action = Offer | Withdraw | Complete | AskPerson


@dataclass(frozen=True, slots=True)
class Decision:
    rollout: Rollout
    because: str
    actions: tuple[Action, ...] = ()
    figures: Mapping[str, float | int | None] = field(default_factory=dict)
