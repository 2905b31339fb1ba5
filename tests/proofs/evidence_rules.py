"""Rules that look again and again at the same fields: how often each halts a harmless release, and sees a harmful one.

Ten canary devices of a hundred, a week, four looks a day; 500 km between events, 100 km a device and day, so about 14
events on canary devices if nothing changes. Every rule sees the very same telemetry at the very same looks. The table
goes to docs/explanation/rules.md.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from control_plane.rollout.domain import Control, Gravest, Plan, Stage
from tests.unit.evidence.fields import (
    ANNEX,
    COLD,
    HALL,
    OTHERS,
    Driven,
    Field,
    Lateness,
    Past,
    ever_halted,
    ever_promoted,
    history_halts,
    other_halts,
)
from tests.unit.evidence.worlds import Arm

LOOKS, ALPHA = 28, 0.05
RATE = 1 / 500  # events per km
RUNS = {1.0: 400, 1.5: 100, 2.0: 100, 3.0: 60}
PLAN = Plan((Stage(0.1, 1e9, 1e9), Stage(1.0, 1e9, 1e9)), gravest=Gravest.OFF)
ONE = (Arm(HALL, 10, 90, RATE),)
# Canaries stand where nine times as much happens: what chance may do where nobody compares like with like.
MIXED = (Arm(HALL, 2, 38, 0.28 * RATE), Arm(ANNEX, 10, 30, 1.7 * RATE), Arm(COLD, 24, 16, 2.45 * RATE))
LATE = Lateness(mean=3, canary=2, offline_share=0.2, offline_looks=10)
FIELDS = {
    "devices all alike": Field(ONE, LOOKS, 25.0),
    "sites that differ": Field(MIXED, LOOKS, 25.0),
    "devices that differ": Field(ONE, LOOKS, 25.0, 0.3),
    "telemetry that comes late": Field(ONE, LOOKS, 25.0, 0.0, LATE),
    "all of it": Field(MIXED, LOOKS, 25.0, 0.3, LATE),
}
OURS = "fleetloop: e-process by stratum, at every look"
DOCS = Path(__file__).parents[2] / "docs" / "explanation" / "rules.md"


def run() -> Iterator[dict[str, Any]]:
    table: dict[str, dict[str, dict[float, float]]] = {}
    for name, field in FIELDS.items():
        table[name] = {}
        for ratio, runs in RUNS.items():
            for rule, share in _shares(field, ratio, runs).items():
                table[name].setdefault(rule, {})[ratio] = share
        ours = table[name][OURS]
        figures = {"false halts": ours[1.0], **{f"{ratio:g} times seen": ours[ratio] for ratio in (1.5, 2.0, 3.0)}}
        yield _line(f"halting, {name}", figures, ours[1.0] <= ALPHA)
    yield from _promotions()
    yield from _own_past()
    DOCS.write_text(page(table))


def _line(what: str, figures: dict[str, float], ok: bool) -> dict[str, Any]:
    bound = f"a harmless release is halted, or a harmful one let pass, in at most {ALPHA:.0%}"
    return {"proof": f"rules: {what}", "ok": bool(ok), "bound": bound, "figures": figures}


def _shares(field: Field, ratio: float, runs: int) -> dict[str, float]:
    rng = np.random.default_rng(20_000 + int(10 * ratio))
    found: dict[str, int] = dict.fromkeys((OURS, *OTHERS), 0)
    for _ in range(runs):
        driven = field.drive(rng, ratio)
        found[OURS] += ever_halted(PLAN, driven, LOOKS) is not None
        for rule in OTHERS:
            found[rule] += other_halts(rule, driven, LOOKS, _usual(driven)) is not None
    return {rule: count / runs for rule, count in found.items()}


def _usual(driven: Driven) -> float:
    devices = sum(arm.canaries + arm.controls for arm in driven.arms)
    return sum((arm.canaries + arm.controls) * arm.rate for arm in driven.arms) / devices


def _promotions() -> Iterator[dict[str, Any]]:
    """A release worse by exactly the margin must not be shown to be within it."""
    for name in ("devices all alike", "all of it"):
        rng, field = np.random.default_rng(31), FIELDS[name]
        passed = [ever_promoted(PLAN, field.drive(rng, 2.0), LOOKS) for _ in range(600)]
        good = [ever_promoted(PLAN, field.drive(rng, 0.7), LOOKS) for _ in range(60)]
        figures = {"false passes": _share(passed), "a better release passes": _share(good)}
        yield _line(f"widening, {name}", figures, _share(passed) <= ALPHA)


def _own_past() -> Iterator[dict[str, Any]]:
    plan = Plan((Stage(1.0, 1e9, 1e9),), gravest=Gravest.OFF, control=Control.HISTORY)
    for frailty in (0.0, 0.3, 1.0):
        past = Past(10, 25 * RATE, 112.0, LOOKS, frailty)  # four weeks before, one week since
        found = {}
        for ratio, runs in RUNS.items():
            rng = np.random.default_rng(41)
            found[ratio] = _share([history_halts(plan, past, rng, ratio) for _ in range(runs)])
        figures = {"false halts": found[1.0], **{f"{ratio:g} times seen": found[ratio] for ratio in (1.5, 2.0, 3.0)}}
        yield _line(f"own past, no control group, variance between devices {frailty:g}", figures, found[1.0] <= ALPHA)


def _share(hits: list[bool]) -> float:
    return round(sum(hits) / len(hits), 4)


def page(table: dict[str, dict[str, dict[float, float]]]) -> str:
    """Return the document with every rule in every field."""
    lines = [
        "# Rules compared",
        "",
        "Made by `make prove ARGS=evidence`, from fixed seeds: every rule looks at the same simulated fleets, at the",
        "same looks (ten canary devices of a hundred, a week, four looks a day, about 14 events on canary devices if",
        "nothing changes). *No change* is how often a harmless release is halted; the other columns are how often 1.5,",
        "2 and 3 times the events are seen within the week. A rule that halts harmless releases sees much, and is soon",
        "switched off.",
    ]
    for name, rules in table.items():
        lines += [
            "",
            f"## With {name}",
            "",
            "| rule | no change | 1.5 times | 2 times | 3 times |",
            "|---|---|---|---|---|",
        ]
        for rule in (*OTHERS, OURS):
            cells = " | ".join(f"{rules[rule][ratio]:.0%}" for ratio in RUNS)
            shown = f"**{rule}**" if rule == OURS else rule
            lines.append(f"| {shown} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    begun = time.perf_counter()
    for line in run():
        print(json.dumps(line | {"seconds": round(time.perf_counter() - begun, 1)}), flush=True)
