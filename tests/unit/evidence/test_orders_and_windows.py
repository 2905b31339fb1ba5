from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.rollout.domain import (
    EVERYONE,
    Live,
    ReleaseRef,
    Stratum,
    Window,
    counted_in,
    order_for,
    return_score,
    score,
    window_closed,
)

HALL = Stratum("hall", "amr")
OLD, MID, NEW = (ReleaseRef(c * 64, 100, n, c * 64) for n, c in ((1, "a"), (2, "b"), (3, "c")))
ALL = {HALL: EVERYONE}


def order(device: str, *live: Live, running: str | None = None, floor: int = 0) -> tuple[str, str | None] | None:
    found = order_for(device, HALL, floor, live, [OLD], running)
    return (found.release.digest[0], found.rollout_id) if found else None


def test_the_newer_of_two_rollouts_wins_whatever_their_order() -> None:
    first, second = Live("r1", MID, ALL), Live("r2", NEW, ALL)
    assert order("d", first, second) == order("d", second, first) == ("c", "r2")
    assert order("d", first, Live("r2", NEW, {HALL: 0})) == ("b", "r1")


def test_whoever_has_not_begun_does_not_begin_once_it_goes_back() -> None:
    back = Live("r", NEW, ALL, returning=0.0)
    assert order("d", back) == ("a", None)
    assert order("d", back, running=NEW.content_digest) == ("c", "r")
    assert order("d", back, running=OLD.content_digest) == ("a", None)


@given(st.uuids().map(str), st.floats(0, 1), st.floats(0, 1))
def test_devices_go_back_when_their_turn_comes_and_never_take_it_up_again(device: str, one: float, two: float) -> None:
    early, late = sorted((one, two))
    before, after = (
        order(device, Live("r", NEW, ALL, returning=share), running=NEW.content_digest) for share in (early, late)
    )
    assert (before == ("c", "r")) == (return_score("r", device) >= int(early * EVERYONE))
    if before == ("a", None):
        assert after == ("a", None)
    assert order(device, Live("r", NEW, ALL, returning=1.0), running=NEW.content_digest) == ("a", None)


def test_the_way_back_says_nothing_about_the_way_there() -> None:
    devices = [f"d{i}" for i in range(2000)]
    first = [d for d in devices if score("r", d) < EVERYONE // 10]
    returned = [d for d in first if return_score("r", d) < EVERYONE // 2]
    assert 0.3 < len(returned) / len(first) < 0.7


def test_a_live_rollout_goes_before_one_that_is_taken_back() -> None:
    back, live = Live("r2", NEW, ALL, returning=0.0), Live("r1", MID, ALL)
    assert order("d", back, live, running=NEW.content_digest) == ("b", "r1")
    assert order("d", back, live, running=NEW.content_digest, floor=3) == ("c", "r2")


@pytest.mark.parametrize(
    "limit", [{"site_budget": 1}, {"cell_budget": 1}, {"windows": (Window("UTC", "01:00", "02:00"),)}]
)
def test_a_device_that_is_limited_does_not_switch_until_somebody_has_looked(limit: dict[str, object]) -> None:
    found = order_for("d", HALL, 0, [Live("r", NEW, ALL, **limit)], [])  # type: ignore[arg-type]
    assert found is not None
    assert (found.limited, found.site_free) == (True, False)
    free = order_for("d", HALL, 0, [Live("r", NEW, ALL)], [])
    assert free is not None
    assert (free.limited, free.site_free) == (False, None)


@given(st.integers(1001, 10**7), st.floats(0.001, 0.999))
def test_a_large_stratum_is_counted_with_room_for_chance(devices: int, fraction: float) -> None:
    least = counted_in(devices, fraction)
    assert least <= fraction * devices
    assert counted_in(devices, 1.0) == devices


# --- windows ----------------------------------------------------------------------------------------------------------


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


NIGHT = Window("Europe/Berlin", "22:00", "05:00", ("fri",))


@pytest.mark.parametrize(
    ("when", "is_open"),
    [
        ("2026-01-02T21:30:00+00:00", True),  # Friday, 22:30 in Berlin
        ("2026-01-02T20:30:00+00:00", False),
        ("2026-01-03T03:30:00+00:00", True),  # Saturday morning still belongs to Friday's window
        ("2026-01-03T04:30:00+00:00", False),
        ("2026-01-03T21:30:00+00:00", False),  # Saturday's own night is none
        ("2026-07-03T20:30:00+00:00", True),  # in summer the wall is an hour further
    ],
)
def test_a_window_is_open_by_the_wall_of_its_site(when: str, is_open: bool) -> None:
    assert NIGHT.is_open(at(when)) is is_open


def test_the_hour_that_the_clock_leaves_out_is_in_no_window_and_the_one_it_repeats_in_both() -> None:
    hour = Window("Europe/Berlin", "02:00", "03:00")
    spring = [at("2026-03-29T00:30:00+00:00") + timedelta(minutes=30 * i) for i in range(5)]
    assert not any(hour.is_open(moment) for moment in spring)
    autumn = [at("2026-10-25T00:30:00+00:00"), at("2026-10-25T01:30:00+00:00")]
    assert all(hour.is_open(moment) for moment in autumn)


def test_a_site_without_a_window_may_always_and_others_are_told_when() -> None:
    windows = [Window("UTC", "01:00", "02:00", sites=("hall",)), Window("UTC", "04:00", "05:00", sites=("hall",))]
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert window_closed(windows, "annex", noon) == ""
    assert "01:00 to 02:00 UTC" in window_closed(windows, "hall", noon)
    assert window_closed(windows, "hall", noon.replace(hour=4)) == ""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("Mars/Base", "01:00", "02:00"), "no IANA zone"),
        (("UTC", "1 o'clock", "02:00"), "HH:MM"),
        (("UTC", "02:00", "02:00"), "never open"),
        (("UTC", "01:00", "02:00", ("someday",)), "days among"),
        (("../etc/passwd", "01:00", "02:00"), "no IANA zone"),
    ],
)
def test_a_senseless_window_is_refused(wrong: tuple[object, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Window(*wrong)  # type: ignore[arg-type]
