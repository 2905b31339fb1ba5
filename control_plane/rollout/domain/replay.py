"""Decisions as plain data and back: what a decision was made from is kept, so that it can be made again.

`cells` of a kept decision are only those slices that changed since the one before, as they stood then; laid over each
other in order they are the whole field at that time.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from control_plane.evaluation.domain import Verdict
from control_plane.kit.statistics import UnitMoments
from control_plane.rollout.domain.decide import decide
from control_plane.rollout.domain.ledger import Ledger
from control_plane.rollout.domain.values import (
    RETRY_CAUSES,
    ArmSpread,
    Control,
    Decision,
    Deployments,
    Gravest,
    History,
    Phase,
    Plan,
    Rollout,
    Seen,
    Stage,
    Stratum,
    Watch,
    Wishes,
)
from control_plane.rollout.domain.windows import Window

Plain = Mapping[str, Any]
SEEN_PLAIN = ("approvals", "holding", "waits_for", "due_back", "preempted_by", "has_way_back")
MOMENTS = ("units", "exposure", "events", "exposure_squared", "events_squared", "events_times_exposure")


def read_plan(plain: Plain) -> Plan:
    """Return a plan from what `dataclasses.asdict` made of one, also of one from before it had all its fields."""
    known = {name: value for name, value in plain.items() if name in Plan.__slots__}
    return Plan(
        **known
        | {
            "stages": tuple(Stage(**stage) for stage in plain["stages"]),
            "harm_ratios": tuple(plain["harm_ratios"]),
            "gravest": Gravest(plain["gravest"]),
            "control": Control(plain.get("control", Control.CONCURRENT)),
            "watch": tuple(Watch(w["name"], tuple(w["kinds"]), w["share"]) for w in plain.get("watch", ())),
            "windows": tuple(
                Window(**w | {"days": tuple(w["days"]), "sites": tuple(w["sites"])}) for w in plain.get("windows", ())
            ),
            "returns": tuple(plain.get("returns", (1.0,))),
            "retry_causes": tuple(plain.get("retry_causes", RETRY_CAUSES)),
        }
    )


def rollout_from(plan: Plain, state: Plain) -> Rollout:
    verdict = state["gate_verdict"]
    return Rollout(
        read_plan(plan),
        Phase(state["phase"]),
        state["stage"],
        _instant(state["stage_since"]),
        state["exposure_before"],
        Verdict(verdict) if verdict else None,
        state["override_reason"],
        state["wave"],
        _instant(state["wave_since"]),
    )


def _instant(value: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def evidence_of(before: Rollout, seen: Seen, decision: Decision, cells: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return what a decision was made from and what it said, as plain data."""
    state = {name: getattr(before, name) for name in Rollout.__slots__ if name != "plan"}
    return {
        "before": {name: _plain(value) for name, value in state.items()},
        "seen": {
            "now": seen.now.isoformat(),
            "deployments": asdict(seen.deployments),
            "wishes": asdict(seen.wishes),
            "spreads": [_spread(spread) for spread in seen.spreads],
            "histories": [list(asdict(history).values()) for history in seen.histories],
            **{name: getattr(seen, name) for name in SEEN_PLAIN},
        },
        "cells": [list(cell) for cell in cells],
        "answer": answer_of(decision),
    }


def answer_of(decision: Decision) -> dict[str, Any]:
    """Return what a decision says, in the form in which two are compared."""
    after = decision.rollout
    state = {name: _plain(getattr(after, name)) for name in Rollout.__slots__ if name != "plan"}
    actions = [[type(action).__name__, asdict(action)] for action in decision.actions]
    return {"rollout": state, "because": decision.because, "actions": actions, "figures": dict(decision.figures)}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _spread(spread: ArmSpread) -> list[Any]:
    moments = [[getattr(arm, name) for name in MOMENTS] for arm in (spread.canary, spread.control)]
    return [spread.stratum.site, spread.stratum.device_class, *moments]


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision made again; `differs` names what is not the same."""

    number: int
    because: str
    differs: tuple[str, ...]


def replay(plan: Plain, kept: Sequence[tuple[int, Plain]]) -> Iterator[Replayed]:
    """Make decisions again, oldest first, from (number, evidence)."""
    field: dict[tuple[int, Stratum], Sequence[Any]] = {}
    for number, evidence in kept:
        for slice_number, site, device_class, *arms in evidence["cells"]:
            field[(slice_number, Stratum(site, device_class))] = arms
        before = rollout_from(plan, evidence["before"])
        again = answer_of(decide(before, _seen(evidence["seen"], field)))
        said = evidence["answer"]
        differs = tuple(sorted(name for name in again if _canonical(again[name]) != _canonical(said.get(name))))
        yield Replayed(number, str(said["because"]), differs)


def _seen(plain: Plain, field: Mapping[tuple[int, Stratum], Sequence[Any]]) -> Seen:
    return Seen(
        datetime.fromisoformat(plain["now"]),
        deployments=Deployments(**plain["deployments"]),
        wishes=Wishes(**plain["wishes"]),
        spreads=tuple(_read_spread(spread) for spread in plain["spreads"]),
        histories=tuple(History(*history) for history in plain["histories"]),
        increments=ledger_of(field),
        **{name: plain[name] for name in SEEN_PLAIN},
    )


def ledger_of(field: Mapping[tuple[int, Stratum], Sequence[Any]]) -> Ledger:
    """Return slices in columns, from each arm's exposure in thousandths and its events by count."""
    slots = sorted(field)
    strata = tuple(sorted({stratum for _, stratum in slots}))
    number = {stratum: place for place, stratum in enumerate(strata)}
    width = max((len(arm) for arms in field.values() for arm in arms), default=1)
    rows = np.zeros((len(slots), 2, width), dtype=np.int64)
    for place, slot in enumerate(slots):
        for arm, amounts in enumerate(field[slot]):
            rows[place, arm, : len(amounts)] = amounts
    return Ledger(
        strata,
        np.asarray([bucket for bucket, _ in slots], dtype=np.int64),
        np.asarray([number[stratum] for _, stratum in slots], dtype=np.int64),
        rows[:, :, 0] / 1000,
        rows[:, :, 1:],
    )


def _read_spread(plain: Sequence[Any]) -> ArmSpread:
    site, device_class, canary, control = plain
    return ArmSpread(Stratum(site, device_class), UnitMoments(*canary), UnitMoments(*control))


def _canonical(value: Any) -> str:
    """Write down a value so that a number is the same whether a database gives it back as 2, 2.0 or 2e0."""
    return json.dumps(_floats(value), sort_keys=True)


def _floats(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _floats(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_floats(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
