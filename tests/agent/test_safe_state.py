"""The expression that says when a device may switch, and the machine that waits for it."""

import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.main.safety import Present
from agents.platform import Conditions
from agents.protocol.v1 import DeploymentPhase as P
from agents.protocol.v1.safe_state import (
    MAX_CHARS,
    MAX_JOINED_CHARS,
    Circumstances,
    SafeStateError,
    all_of,
    check,
    parse,
    standing,
)
from agents.sdk import Robot
from agents.sdk.signals import Motion, Signals
from agents.update import Safety
from agents.update.machine import Action, Seen, Slot, State, Target, decide

NIGHT = 'between("22:00", "05:00", "Europe/Berlin")'
EXAMPLE = f"stopped and docked and battery >= 30 and temperature_c < 70 and not metered and {NIGHT}"
FINE = Circumstances(
    safe_to_switch=True, stopped=True, docked=True, external_power=True, metered=False, throttled=False,
    battery=80.0, temperature_c=45.0, load=0.3, gpu_load=10.0, speed_m_s=0.0,
    now=datetime(2026, 11, 21, 23, 30, tzinfo=UTC),
)  # fmt: skip


def seen(**changes: Any) -> Circumstances:
    return Circumstances(**{**vars(FINE), **changes})


def words(text: str, circumstances: Circumstances) -> list[str]:
    answer = parse(text).ask(circumstances)
    assert answer.ok is (not answer.waits)
    return [each.words for each in answer.waits]


def test_the_example_of_the_page_holds_and_says_what_is_missing() -> None:
    assert words(EXAMPLE, FINE) == []
    bad = seen(stopped=False, docked=False, battery=18.0, temperature_c=71.25, metered=True, now=None)
    assert words(EXAMPLE, bad) == [
        "moving",
        "not docked",
        "battery 18 < 30 %",
        "hot: 71.25 >= 70 °C",
        "the network is metered",
        "not known: whether it is 22:00-05:00 Europe/Berlin (no trusted clock, or no such time zone here)",
    ]


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("temperature_c <= 55", {"temperature_c": 61.2}, ["hot: 61.2 > 55 °C"]),
        ("temperature_c > 0", {"temperature_c": -3.0}, ["cold: -3 <= 0 °C"]),
        ("battery >= 30 %", {"battery": 30.0}, []),
        ("battery > 30", {"battery": 30.0}, ["battery 30 <= 30 %"]),
        ("load < 0.5", {"load": 0.75}, ["busy: load 0.75 >= 0.5 per core"]),
        ("moving", {}, ["stopped"]),
        ("not moving", {}, []),
        ("not (stopped and docked)", {"docked": False}, []),
        ("not (stopped or battery < 90)", {"stopped": False}, ["battery 80 < 90 %"]),
        ("docked or external_power", {"docked": False}, []),
        ("docked or external_power", {"docked": False, "external_power": False},
         ["one of: not docked, or on battery"]),
        ("docked or external_power and battery > 90", {"docked": True}, []),
        ("not throttled", {"throttled": True}, ["throttled"]),
    ],
)  # fmt: skip
def test_terms(text: str, changes: dict[str, Any], expected: list[str]) -> None:
    assert words(text, seen(**changes)) == expected


@pytest.mark.parametrize("name", ["docked", "metered", "battery", "temperature_c", "now", "stopped", "load"])
def test_what_is_not_known_is_never_safe_however_it_is_asked(name: str) -> None:
    term = {"battery": "battery > 1", "temperature_c": "temperature_c < 99", "load": "load < 9", "now": NIGHT}
    asked = term.get(name, name)
    for text in (asked, f"not {asked}", f"not not ({asked})", f"{asked} and stopped", f"docked and not {asked}"):
        assert not parse(text).ask(seen(**{name: None})).ok
    assert parse(f"{asked} or gpu_load < 50").ask(seen(**{name: None})).ok


def test_not_a_number_is_not_known() -> None:
    for text in ("temperature_c < 70", "temperature_c >= 70"):
        assert words(text, seen(temperature_c=float("nan"))) == ["not known: the temperature"]


@pytest.mark.parametrize(
    ("at", "inside"),
    [
        # Winter: Berlin is one hour ahead; summer: two.
        (datetime(2026, 1, 10, 20, 59, tzinfo=UTC), False),
        (datetime(2026, 1, 10, 21, 0, tzinfo=UTC), True),
        (datetime(2026, 1, 11, 3, 59, tzinfo=UTC), True),
        (datetime(2026, 1, 11, 4, 0, tzinfo=UTC), False),
        (datetime(2026, 7, 10, 19, 59, tzinfo=UTC), False),
        (datetime(2026, 7, 10, 20, 0, tzinfo=UTC), True),
        (datetime(2026, 7, 11, 2, 59, tzinfo=UTC), True),
        (datetime(2026, 7, 11, 3, 0, tzinfo=UTC), False),
        # The night in which the clock goes back: 02:30 happens twice, both are night.
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), True),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), True),
        (datetime(2026, 10, 25, 4, 0, tzinfo=UTC), False),
    ],
)
def test_a_window_is_local_time_through_midnight_and_daylight_saving(at: datetime, *, inside: bool) -> None:
    assert parse(NIGHT).ask(seen(now=at)).ok is inside
    assert parse(f"not {NIGHT}").ask(seen(now=at)).ok is not inside


def test_a_zone_that_is_not_there_is_not_known_on_the_device_and_refused_by_the_server() -> None:
    text = 'between("08:00", "09:00", "Mars/Olympus")'
    assert not parse(text).ask(FINE).ok
    with pytest.raises(SafeStateError, match="there is no time zone 'Mars/Olympus'"):
        check(text)
    assert check(NIGHT) == NIGHT
    assert check("  ") == ""


@pytest.mark.parametrize(
    ("text", "at", "problem"),
    [
        ("", 0, "it ends where a term is expected"),
        ("stopped and", 11, "it ends where a term is expected"),
        ("stopped docked", 8, "'and', 'or' or the end is expected"),
        ("battery", 7, "it ends where 'battery' wants"),
        ("battery == 3", 8, "this means nothing here"),
        ("battery >= thirty", 11, "a number is expected"),
        ("stoped", 0, "'stoped' is no term; there are"),
        ("(stopped", 8, "it ends where '\\)' is expected"),
        ("stopped)", 7, "'and', 'or' or the end"),
        ('between("22:00", "05:00")', 24, "',' is expected"),
        ('between("25:00", "05:00", "UTC")', 8, "a time like"),
        ('between("05:00", "05:00", "UTC")', 31, "empty"),
        ("__import__('os')", 0, "this means nothing here"),
        ("stopped and battery >= 1e9", 24, "'and', 'or' or the end"),
        ("not", 3, "it ends where a term is expected"),
        ("(" * 40 + "stopped" + ")" * 40, 12, "nested deeper than 12"),
        ("not " * 40 + "stopped", 48, "nested deeper than 12"),
        (" or ".join(["load<1"] * 40), 0, "more than 125 words and signs"),
        ("stopped" + " " * MAX_CHARS, 0, "longer than 500 characters"),
    ],
)
def test_an_error_points_at_its_place(text: str, at: int, problem: str) -> None:
    with pytest.raises(SafeStateError, match=problem) as error:
        parse(text)
    assert error.value.at == at


@given(st.text(alphabet="stoped andrbuy()<>=%\"':0123456789.,_-\n\0é", max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_text_is_an_expression_or_a_clear_error_and_nothing_else(text: str) -> None:
    try:
        expression = parse(text)
    except SafeStateError:
        return
    assert expression.ask(FINE).ok in (True, False)


_LEAVES = st.sampled_from(["stopped", "docked", "metered", "battery >= 30", "temperature_c < 60", NIGHT])
_EXPRESSIONS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda each: f"not ({each})"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda each: f"({each[0]}) {each[1]} ({each[2]})"),
    ),
    max_leaves=6,
).filter(lambda text: len(text) < MAX_CHARS and text.count("(") < 10)
_KNOWN = st.fixed_dictionaries(
    {
        "stopped": st.booleans(), "docked": st.booleans(), "metered": st.booleans(),
        "battery": st.floats(0, 100), "temperature_c": st.floats(-20, 110),
        "now": st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  hypothesis adds the zone
    }
)  # fmt: skip


@given(_EXPRESSIONS, _KNOWN, st.sets(st.sampled_from(["stopped", "docked", "metered", "battery", "now"])))
@settings(max_examples=400, deadline=None)
def test_learning_more_never_takes_back_a_yes_and_not_turns_every_answer_round(
    text: str, known: dict[str, Any], unknown: set[str]
) -> None:
    whole, less = (
        seen(**known),
        seen(**known, **dict.fromkeys(unknown)) if not unknown else seen(**{**known, **dict.fromkeys(unknown)}),
    )
    opposite = parse(f"not ({text})")
    assert parse(text).ask(whole).ok is not opposite.ask(whole).ok
    if parse(text).ask(less).ok:
        assert parse(text).ask(whole).ok
    assert not (parse(text).ask(less).ok and opposite.ask(less).ok)


def test_the_strictest_of_several_wins() -> None:
    joined = all_of(["stopped or docked", "", "battery >= 50", "battery >= 50"])
    assert joined == "(stopped or docked) and (battery >= 50)"
    assert all_of(["", " "]) == ""
    assert all_of(["docked"]) == "docked"
    assert words(joined, seen(battery=40.0)) == ["battery 40 < 50 %"]
    longest = [f"battery >= {number} {' ' * (MAX_CHARS - 14)}"[:MAX_CHARS] for number in (10, 20)]
    assert parse(all_of(longest), MAX_JOINED_CHARS).ask(FINE).ok


def test_the_term_of_a_wait_stays_while_its_figures_change() -> None:
    first, second = (parse("temperature_c < 55").ask(seen(temperature_c=at)).waits[0] for at in (60.0, 61.0))
    assert first.term == second.term
    assert first.words != second.words


def test_a_robot_without_a_speed_stands_when_it_says_it_may_switch() -> None:
    assert [standing(0.0, None), standing(0.5, True), standing(None, True), standing(None, None)] == [
        True, False, True, None,
    ]  # fmt: skip


def armed(**changes: Any) -> tuple[State, Seen]:
    old, new = Slot("a", "a" * 64, "b" * 64, 1), Slot("b", "c" * 64, "d" * 64, 2)
    target = Target("c" * 64, 10, 2, safe_state="docked")
    state = State(phase=P.ARMED, target=target, candidate=new, active=old, fallback=None)
    return state, Seen(**{"order": target, "order_known": True, "order_fresh": True, "link": old.link, "staged": True,
                          **changes})  # fmt: skip


def test_an_armed_device_waits_with_a_reason_code_and_the_words() -> None:
    decision = decide(*armed(waits_for=("not docked", "battery 18 < 30 %"), safe_to_switch=False))
    assert (decision.state.phase, decision.state.reason) == (P.ARMED, "waiting_safe_state")
    assert decision.state.detail == "not docked; battery 18 < 30 %"
    assert decision.actions == ()
    assert decide(*armed(safe_to_switch=False)).state.reason == "moving"
    assert decide(*armed(site_free=False)).state.reason == "waiting_site"
    assert decide(*armed()).state.phase is P.TRIAL


def test_a_device_without_a_model_waits_for_nothing() -> None:
    state, world = armed(waits_for=("not docked",), link=None)
    assert decide(replace(state, active=None), world).state.phase is P.TRIAL


def test_the_rule_of_the_device_and_that_of_the_order_must_both_hold() -> None:
    now = [seen(battery=40.0, docked=False)]
    safety = Safety(lambda: now[0])
    assert safety.waits_for("", None) == ()
    assert safety.waits_for("battery >= 50", "docked") == ("battery 40 < 50 %", "not docked")
    assert safety.waits_for("battery >= 50", "battery >= 30") == ("battery 40 < 50 %",)
    now[0] = seen(safe_to_switch=False, docked=False)
    assert safety.waits_for("", "docked") == ("not docked", "the application says not now")
    assert safety.waits_for("", "battery >= 30") == ()


def test_a_rule_this_device_cannot_read_does_not_hold() -> None:
    (words,) = Safety(lambda: FINE).waits_for("", "stopped and moon_phase < 3")
    assert "'moon_phase' is no term" in words


def test_figures_are_told_anew_once_a_minute_and_a_new_lack_at_once() -> None:
    now, time_s = [seen(temperature_c=60.0)], [0.0]
    safety = Safety(lambda: now[0], lambda: time_s[0])

    def ask() -> tuple[str, ...]:
        return safety.waits_for("temperature_c < 55 and docked", None)

    assert ask() == ("hot: 60 >= 55 °C",)
    now[0], time_s[0] = seen(temperature_c=61.0), 30.0
    assert ask() == ("hot: 60 >= 55 °C",)
    time_s[0] = 61.0
    assert ask() == ("hot: 61 >= 55 °C",)
    now[0] = seen(temperature_c=62.0, docked=False)
    assert ask() == ("hot: 62 >= 55 °C", "not docked")


@pytest.mark.parametrize("phase", [P.COMMITTED, P.IDLE, P.REFUSED, P.DOWNLOADING])
def test_a_model_that_turns_out_bad_after_its_trial_is_left_for_the_one_before(phase: P) -> None:
    old, bad = Slot("a", "a" * 64, "b" * 64, 1), Slot("b", "c" * 64, "d" * 64, 2)
    target = Target("c" * 64, 10, 2) if phase is P.COMMITTED else Target("e" * 64, 10, 3)
    order = None if phase is P.IDLE else target
    state = State(phase=phase, target=order, active=bad, fallback=old, floor=2, reason="known_bad")
    world = Seen(order=order, order_known=True, order_fresh=True, link=bad.link, health=False, health_reason="spins")
    decision = decide(state, world)
    after = decision.state
    assert (after.active, after.fallback, decision.actions) == (old, None, (Action.SWITCH,))
    assert ("d" * 64, 2) in after.known_bad
    assert after.floor == 2, "going back is no licence for older releases"
    # What became of the target is told of the target only.
    expected = (P.REVERTED, "unhealthy_later") if phase is P.COMMITTED else (phase, "known_bad")
    assert (after.phase, after.reason) == expected
    again = decide(after, replace(world, link=old.link, health=None))
    assert again.state.active == old
    # Without a model to go back to, a bad one is better than none.
    alone = decide(replace(state, fallback=None), world)
    assert alone.state.active == bad


def test_a_word_of_the_application_ages_and_a_clock_set_back_does_not_keep_it_young(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = Signals(tmp_path)
    signals.put_motion(safe_to_switch=True, docked=True, battery_percent=70.0, speed_m_s=0.0)
    said = signals.motion()
    assert said is not None
    assert (said.docked, said.battery_percent, said.speed_m_s, said.fresh) == (True, 70.0, 0.0, True)
    path = tmp_path / "motion.json"
    told = json.loads(path.read_text())
    for change_s, clock_s in ((-31.0, 3600), (1000.0, 0)):  # half a minute ago; before the last boot
        path.write_text(json.dumps({**told, "uptime_s": told["uptime_s"] + change_s}))
        os.utime(path, (time.time() + clock_s, time.time() + clock_s))
        stale = signals.motion()
        assert stale is not None
        assert not stale.fresh
    path.write_text(json.dumps({"safe_to_switch": True, "docked": "yes", "speed_m_s": True}))
    odd = signals.motion()
    assert odd is not None
    assert (odd.docked, odd.speed_m_s) == (None, None), "what is not of its type is not told"


def test_what_the_application_says_goes_before_what_the_computer_reads_while_it_is_fresh() -> None:
    machine = Conditions(battery_percent=90.0, temperature_c=50.0, load_per_core=0.5, network_metered=None)
    said: list[Motion | None] = [Motion(True, 1.0, speed_m_s=0.3, docked=True, battery_percent=20.0)]
    floor = [datetime(2026, 1, 1, tzinfo=UTC)]
    present = Present(lambda: machine, lambda: said[0], lambda: floor[0])
    now = present()
    assert (now.battery, now.stopped, now.docked, now.temperature_c, now.metered) == (20.0, False, True, 50.0, None)
    assert now.now is not None
    said[0] = Motion(True, 31.0, docked=True, battery_percent=20.0)
    old = present()
    assert (old.battery, old.stopped, old.docked, old.safe_to_switch) == (90.0, None, None, None)
    floor[0] = datetime(2099, 1, 1, tzinfo=UTC)
    assert present().now is None, "a clock behind what was signed tells no time of day"
    assert Present(lambda: machine, lambda: None, lambda: floor[0], metered=False)().metered is False


def test_the_sdk_tells_a_turn_at_once_and_repeats_itself_before_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "device.json").write_text('{"device_id": "d-1", "site": "hall", "device_class": "test"}')
    robot, path = Robot(tmp_path), tmp_path / "signals" / "motion.json"
    clock = [1000.0]
    monkeypatch.setattr("agents.sdk.robot.time.monotonic", lambda: clock[0])

    def written(after_s: float, **told: Any) -> bool:
        path.unlink(missing_ok=True)
        clock[0] += after_s
        robot.set_motion(False, **told)
        return path.exists()

    assert written(0.0, speed_m_s=1.0)
    assert not written(0.1, speed_m_s=1.1)
    assert written(1.0, speed_m_s=1.1)
    assert not written(1.1, speed_m_s=1.1)
    assert written(0.1, speed_m_s=0.0), "it stands: told at once"
    assert written(5.0, speed_m_s=0.0)
    with pytest.raises(ValueError, match="battery_percent"):
        robot.set_motion(True, battery_percent=101.0)
