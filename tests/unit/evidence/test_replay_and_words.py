import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from control_plane.evaluation.domain import Verdict
from control_plane.kit.statistics import frailty
from control_plane.rollout.domain import (
    EVERYONE,
    Arms,
    Control,
    Decision,
    Gravest,
    Ledger,
    Phase,
    Plan,
    Reached,
    Report,
    Rollout,
    Seen,
    Stage,
    Standing,
    Stratum,
    Told,
    Watch,
    Window,
    Wishes,
    decide,
    evidence_of,
    explain_place,
    explain_rollout,
    histories_of,
    is_retry,
    read_plan,
    replay,
    score,
    spreads_of,
    standing_of,
    weigh,
)
from control_plane.rollout.domain.replay import ledger_of
from control_plane.rollout.domain.words import amount_of, time_of
from control_plane.telemetry.domain import DeviceSum

T0 = datetime(2026, 1, 1, tzinfo=UTC)
HALL, COLD = Stratum("hall", "amr"), Stratum("cold", "amr")
PLAN = Plan(
    (Stage(0.1, 1e6, 86_400.0), Stage(1.0, 1e6, 86_400.0)),
    gravest=Gravest.EXCESS,
    watch=(Watch("brakes", ("hard_brake",), 0.1),),
    control=Control.BOTH,
    windows=(Window("Europe/Berlin", "22:00", "05:00", sites=("hall",)),),
    returns=(0.2, 1.0),
)


def test_a_plan_comes_back_from_plain_data_as_it_was() -> None:
    plain = json.loads(json.dumps(asdict(PLAN)))
    assert read_plan(plain) == PLAN
    old = {name: value for name, value in plain.items() if name not in ("watch", "control", "windows", "returns")}
    assert read_plan(old | {"withdraw_at_once": 100}).returns == (1.0,)


def a_life(seed: int, ticks: int = 30) -> tuple[list[tuple[int, dict[str, Any]]], list[Decision]]:
    """Let a rollout live and keep its decisions as the reconciler does: only slices that changed."""
    rng = np.random.default_rng(seed)
    rollout = Rollout(PLAN, Phase.ROLLING, 0, T0, gate_verdict=Verdict.PASS)
    field: dict[tuple[int, Stratum], list[list[int]]] = {}
    kept, made = [], []
    for tick in range(ticks):
        changed = {(tick // 3, HALL), (tick // 3, COLD), (int(rng.integers(0, tick // 3 + 1)), HALL)}
        for slot in changed:
            rows = field.setdefault(slot, [[0, 0, 0, 0], [0, 0, 0, 0]])
            for arm, share in enumerate((1, 9)):
                rows[arm][0] += int(rng.integers(0, 3000)) * share
                rows[arm][1] += int(rng.poisson(share * 0.7))
                rows[arm][3] += int(rng.poisson(share * 0.2))
        seen = Seen(T0 + timedelta(seconds=60 * tick), 1, 5, increments=ledger_of(field), wishes=Wishes(start=True))
        decision = decide(rollout, seen)
        cells = [[n, s.site, s.device_class, *field[(n, s)]] for n, s in sorted(changed)]
        kept.append((tick, json.loads(json.dumps(evidence_of(rollout, seen, decision, cells)))))
        made.append(decision)
        rollout = decision.rollout
    return kept, made


@pytest.mark.parametrize("seed", range(4))
def test_every_decision_is_made_again_bit_for_bit(seed: int) -> None:
    kept, made = a_life(seed)
    plan = json.loads(json.dumps(asdict(PLAN)))
    again = list(replay(plan, kept))
    assert [each.differs for each in again] == [()] * len(made)
    assert [each.because for each in again] == [decision.because for decision in made]


@pytest.mark.parametrize(
    ("what", "part"),
    [
        (lambda e: e["cells"][0][3].__setitem__(1, 99), "figures"),
        (lambda e: e["answer"].__setitem__("because", "because I say so"), "because"),
        (lambda e: e["answer"]["rollout"].__setitem__("phase", "done"), "rollout"),
        (lambda e: e["seen"]["deployments"].__setitem__("failed", 500), "rollout"),
    ],
)
def test_evidence_that_was_changed_is_noticed(what: Any, part: str) -> None:
    kept, _ = a_life(1)
    what(kept[5][1])
    plan = json.loads(json.dumps(asdict(PLAN)))
    differing = {name for each in replay(plan, kept) for name in each.differs}
    assert part in differing


def test_a_ledger_says_the_same_whatever_the_order_of_its_rows() -> None:
    kept, made = a_life(2)
    ledger = made and next(
        iter([ledger_of({(int(c[0]), Stratum(c[1], c[2])): c[3:] for _, e in kept for c in e["cells"]})])
    )
    shuffled = Ledger.of(list(ledger)[::-1])
    assert weigh(PLAN, shuffled).figures() == weigh(PLAN, ledger).figures()


# --- standings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("report", "standing"),
    [
        (Report("committed", None, runs_it=True, ordered=True), Standing.COMMITTED),
        (Report("committed", None, runs_it=False, ordered=True), Standing.OFFERED),  # the installer's word alone
        (Report("idle", None, runs_it=True, ordered=False), Standing.COMMITTED),
        (Report("idle", None, runs_it=False, ordered=False), Standing.RETURNED),
        (Report("offered", None, runs_it=False, ordered=True), Standing.OFFERED),
        (Report("downloading", None, runs_it=False, ordered=True), Standing.WORKING),
        (Report("trial", None, runs_it=True, ordered=True), Standing.WORKING),
        (Report("refused", "not_qualified", runs_it=False, ordered=True), Standing.FAILED),
        (Report("refused", "not_listed", runs_it=False, ordered=True, attempts=2), Standing.RETRYING),
        (Report("refused", "not_listed", runs_it=False, ordered=True, attempts=3), Standing.FAILED),
        (Report("refused", "not_listed", runs_it=False, ordered=False, attempts=1), Standing.FAILED),
        (Report("reverted", "unhealthy", runs_it=False, ordered=True), Standing.REVERTED),
    ],
)
def test_how_a_device_stands(report: Report, standing: Standing) -> None:
    assert standing_of(report, ("not_listed",), 2) is standing


def test_a_retry_has_an_end() -> None:
    assert [is_retry("not_listed", n, ("not_listed",), 2) for n in range(5)] == [True, True, True, False, False]


# --- sums per device --------------------------------------------------------------------------------------------------


def done(device: str, content: str, metres: float, events: int, site: str = "hall") -> DeviceSum:
    return DeviceSum(device, site, "amr", content, int(metres * 1000), 0, 1, {"hit": events, "other": 9}, T0, T0)


ARMS = Arms("new", {"old"}, "distance_m", {"hit"})


def test_a_devices_past_is_what_it_did_with_anything_else() -> None:
    sums = [done("a", "old", 100, 3), done("a", "new", 10, 1), done("b", "old", 50, 1), done("c", "new", 5, 0)]
    [only] = histories_of(ARMS, [*sums, done("a", "strange", 999, 99)])
    assert (only.device_id, only.exposure_before, only.events_before, only.exposure, only.events) == (
        "a",
        100,
        3,
        10,
        1,
    )


def older(sum_: DeviceSum, content: str, events: int) -> DeviceSum:
    """What the same device did the day before with another release."""
    at = T0 - timedelta(days=1)
    return sum_._replace(content_digest=content, counts={"hit": events}, first_at=at, last_at=at)


def test_releases_that_differ_do_not_make_devices_differ() -> None:
    """Devices that are all alike had a release three times as bad before the one that canaries are compared with."""
    rng, arms = np.random.default_rng(4), Arms("new", {"old", "oldest"}, "distance_m", {"hit"})
    sums = [done(f"d{i}", "old", 3000.0, int(rng.poisson(15))) for i in range(60)]
    before = [older(each, "oldest", int(rng.poisson(45))) for each in sums]
    [spread] = spreads_of(arms, [*before, *sums], {HALL: (0.0, 60 * 3000.0)})
    assert spread.control.units == 60
    assert frailty([spread.control]) < 0.03


def test_a_devices_past_is_the_last_thing_it_had() -> None:
    arms = Arms("new", {"old", "oldest"}, "distance_m", {"hit"})
    past = [done("a", "old", 100, 3), done("a", "old", 20, 1, site="cold")]
    [only] = histories_of(arms, [older(past[0], "oldest", 40), *past, done("a", "new", 10, 1)])
    assert (only.exposure_before, only.events_before) == (120, 4)


def test_how_devices_differ_does_not_depend_on_how_long_they_drove_before() -> None:
    rng = np.random.default_rng(3)
    rates = rng.gamma(2, 0.5, 400)
    sums = [done(f"d{i}", "old", 5000.0, int(rng.poisson(50 * rate))) for i, rate in enumerate(rates)]
    [whole] = spreads_of(ARMS, sums, {HALL: (0.0, 400 * 5000.0)})
    [part] = spreads_of(ARMS, sums, {HALL: (0.0, 400 * 500.0)})
    assert frailty([whole.control]) == pytest.approx(0.5, abs=0.15)
    assert frailty([part.control]) == pytest.approx(frailty([whole.control]), rel=0.02)
    assert part.control.exposure == pytest.approx(200_000)


# --- words ------------------------------------------------------------------------------------------------------------


def told(**changes: Any) -> Told:
    rollout = Rollout(PLAN, Phase.ROLLING, 0, T0, gate_verdict=Verdict.PASS)
    figures = {
        "harm_e": 3.0, "harm_e_needed": 50.0, "safe_e": 1.0, "safe_e_needed": 40.0, "ratio": 1.4, "ratio_low": 0.6,
        "ratio_high": None, "canary_events": 3, "control_events": 20, "canary_exposure": 500.0,
        "control_exposure": 5000.0, "dispersion": 1.5, "stage_exposure": 400.0,
    }  # fmt: skip
    need = {"stage": 0, "ratio": 2.0, "exposure_needed": 900.0, "days_needed": 1.25}
    told = Told(
        "roll_1", "m version 2", rollout, "watching", figures, {Standing.COMMITTED: 7, Standing.SILENT: 1}, 9,
        "distance_m", {"needs": [need]}, "", (), "",
    )  # fmt: skip
    return replace(told, **changes)


def test_a_rollout_is_explained_with_its_numbers() -> None:
    lines = "\n".join(explain_rollout(told(), T0 + timedelta(hours=3)))
    for said in ("7 run it", "1 are silent", "for 9 devices", "decides at 50", "1.40 times", "no bound", "67%",
                 "900 m", "1.2 days", "under 2 times control's", "2026-01-02 00:00 UTC", "3 hours"):  # fmt: skip
        assert said in lines, said


def test_a_rollout_that_ended_is_told_as_it_stood() -> None:
    ended = replace(told().rollout, phase=Phase.HALTED)
    lines = "\n".join(explain_rollout(told(rollout=ended, standings={Standing.RETURNED: 9}), T0 + timedelta(hours=3)))
    assert "when it ended, 9 were back" in lines
    assert "run it" not in lines


def test_times_and_exposure_are_written_as_people_do() -> None:
    assert [time_of(days) for days in (7, 1, 0.5, 1 / 96, 1 / 1440)] == [
        "7 days", "1 day", "12 hours", "15 minutes", "1 minute",
    ]  # fmt: skip
    assert [amount_of(180_700, "distance_m"), amount_of(5_400, "duration_s")] == ["181 km", "1.5 hours"]


def test_asides_are_said_too() -> None:
    lines = "\n".join(explain_rollout(told(plan_override="we know", preempts=("r0",), preempted_by="r2"), T0))
    assert "let go all the same: we know" in lines
    assert "took the devices of r0" in lines
    assert "go to the newer rollout r2" in lines


def test_a_device_is_told_when_its_turn_comes() -> None:
    place = score("r", "d")
    limits = [place // 2, (place + EVERYONE) // 2, EVERYONE]
    reached = Reached("r", "m version 2", Phase.ROLLING, 0, PLAN, limits, None, None, "", is_ordered=False)
    assert "will be reached in stage 2" in explain_place("d", reached)[0]
    never = replace(reached, limits=[place // 2, place // 2, place // 2])
    assert "control to the end" in explain_place("d", never)[0]
    now = replace(reached, stage=1, standing=Standing.WORKING, reason="waiting_site", detail="two are out")
    assert any("waiting_site: two are out" in line for line in explain_place("d", now))
    assert "fixed nothing" in explain_place("d", replace(reached, limits=()))[0]
