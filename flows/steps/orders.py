"""What to do next about a job that a back end was asked to run: a pure function of ledger and sight.

One *order* is one attempt of a job at a back end. The ledger decides whether the job is done; the back end is only
asked whether its order still lives. So an order that ended without a word in the ledger was lost, whatever the back end
says of it, and another one follows.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from control_plane.factory.domain import JobState, Outcome

GRACE_S = 60.0
"""How long an order that still lives may be silent past its lease: the control plane may have been away."""


class Phase(StrEnum):
    """What a back end says of an order: `gone` may be tried elsewhere, `stopped` hit a bound of its own."""

    UNKNOWN = "unknown"
    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Seen:
    """An order at its back end; `because` has the back end's own words."""

    phase: Phase
    because: str = ""

    @property
    def alive(self) -> bool:
        return self.phase in (Phase.WAITING, Phase.RUNNING)

    @property
    def over(self) -> bool:
        return self.phase in (Phase.GONE, Phase.STOPPED)


UNSEEN = Seen(Phase.UNKNOWN)


@dataclass(frozen=True, slots=True)
class View:
    """Everything known now: the job in the ledger, who holds it, and its order; `misfit` says why it cannot run."""

    state: JobState
    is_ours: bool
    silent_s: float
    waited_s: float
    wait_limit_s: float
    seen: Seen
    misfit: str = ""


class Act(StrEnum):
    """`write_off`: close the attempt in the ledger; `drop`: end the order first and then do so."""

    WAIT = "wait"
    SUBMIT = "submit"
    WRITE_OFF = "write_off"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Move:
    act: Act
    because: str = ""
    outcome: Outcome = Outcome.LOST


def next_move(view: View) -> Move:
    """Say what is to be done now; asked again in the same state it says the same."""
    match view.state:
        case JobState.QUEUED:
            return _queued(view)
        case JobState.RUNNING:
            return _running(view)
        case JobState.DONE | JobState.FAILED:
            return Move(Act.WAIT, "it is over")


def _queued(view: View) -> Move:
    if view.misfit:
        return Move(Act.WRITE_OFF, view.misfit, Outcome.FAILED)
    if view.seen.over:
        return _ended(view.seen, "before it took the job")
    if view.seen.phase is Phase.WAITING and view.waited_s > view.wait_limit_s:
        because = f"waited {view.waited_s:.0f} s for its place, at most {view.wait_limit_s:g} s: {view.seen.because}"
        return Move(Act.DROP, because, Outcome.FAILED)
    return Move(Act.WAIT, view.seen.because) if view.seen.alive else Move(Act.SUBMIT)


def _running(view: View) -> Move:
    if view.is_ours and view.seen.over:
        return _ended(view.seen, "without a word")
    if view.silent_s <= 0:
        return Move(Act.WAIT, view.seen.because)
    if view.is_ours and view.seen.alive:
        if view.silent_s <= GRACE_S:
            return Move(Act.WAIT, f"silent for {view.silent_s:.0f} s")
        return Move(Act.DROP, f"its wrapper was silent for {view.silent_s:.0f} s")
    return Move(Act.WRITE_OFF, f"its holder fell silent {view.silent_s:.0f} s ago")


def _ended(seen: Seen, when: str) -> Move:
    if seen.phase is Phase.STOPPED:
        return Move(Act.WRITE_OFF, f"stopped by the cluster: {seen.because}", Outcome.FAILED)
    return Move(Act.WRITE_OFF, f"the order ended {when}: {seen.because}")


def order_name(key: str, created_at: datetime, asked: int, attempt: int) -> str:
    """Name one attempt of one asking of a job; the same wherever it is computed, so nobody orders it twice.

    Back ends remember orders longer than ledgers may live: the instant tells a job of this ledger from one of the same
    key in another, whose end means nothing here.
    """
    return f"{key}.{int(created_at.timestamp() * 1e6):x}.{asked}.{attempt}"


def holder_tag(order: str) -> str:
    """Return how the holder of an order's lease begins: short, because a holder's name is bounded."""
    return hashlib.sha256(order.encode()).hexdigest()[:16]
