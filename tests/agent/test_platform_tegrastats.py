"""Real lines of tegrastats, and broken ones: what is said is read, what is not said stays unknown."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.platform.rails import DevicePower, device_power
from agents.platform.tegrastats import parse

LINES = dict(
    line.split("|", 1) for line in (Path(__file__).parent / "fixtures/tegrastats.txt").read_text().splitlines()
)


def rounded(power: DevicePower | None) -> tuple[float, str] | None:
    return None if power is None else (round(power.watts, 3), power.scope)


@pytest.mark.parametrize("name", sorted(LINES))
def test_every_real_line_is_understood_whole(name: str) -> None:
    assert parse(LINES[name]).unknown == ()
    assert parse(LINES[name]).memory_mb["RAM"][1] > 1000


@pytest.mark.parametrize(
    ("name", "power"),
    [
        ("agx_orin_r36", (6.912, "module_rails")),  # there is no VDD_IN
        ("orin_nx", (13.592, "module_input")),
        ("thor_r38", (19.78, "board_input")),
        ("thor_jp72", (87.426, "board_input")),
        ("orin_jp72", (13.907, "module_rails")),
        ("nano", (8.055, "module_input")),  # no unit
    ],
)
def test_power_has_a_scope(name: str, power: tuple[float, str]) -> None:
    assert rounded(device_power(parse(LINES[name]).rails_w)) == power


def test_thor_without_its_input_is_the_sum_of_rails_and_says_so() -> None:
    line = LINES["thor_r38"].replace(" VIN 19780mW/19780mW", "")
    assert rounded(device_power(parse(line).rails_w)) == (13.484, "module_rails")


def test_a_missing_rail_makes_the_sum_unknown_not_smaller() -> None:
    line = LINES["agx_orin_r36"].replace("VDD_CPU_CV 799mW/799mW ", "")
    assert device_power(parse(line).rails_w) is None


def test_thor_has_no_gpu_load_and_it_is_not_zero() -> None:
    thor = parse(LINES["thor_r38"])
    assert "GR3D" not in thor.engine_percent
    assert thor.engine_mhz["GR3D"] == (314, 314, 314)
    assert parse(LINES["thor_jp72"]).engine_mhz.get("GR3D") is None
    assert parse(LINES["agx_orin_r36"]).engine_percent["GR3D"] == 39


def test_details_of_a_line() -> None:
    orin = parse(LINES["agx_orin_r36"])
    assert orin.stamp == "07-21-2025 16:33:42"
    assert list(orin.cpu_percent) == [7, 3, None, None]
    assert orin.temperature_c == {"cpu": 43.906, "soc2": 40.406, "tj": 43.906}
    third = parse(LINES["thor_jp72"]).power["VIN"]
    assert (third.now_w, third.average_w, third.peak_w) == (87.426, 43.713, 87.426)
    assert parse(LINES["nano"]).power["POM_5V_GPU"].now_w == 0.122


def test_what_nobody_knows_is_kept_and_a_negative_rail_stays_negative() -> None:
    found = parse("FUTURE@@7 RAM 1/2MB VDD_GPU -12mW/3mW gpu@-256C what [a b")
    assert found.unknown == ("FUTURE@@7", "what", "[a b")
    assert found.power["VDD_GPU"].now_w == -0.012
    assert found.temperature_c == {}  # a sensor that is powered down


@given(st.text(max_size=300))
def test_no_line_breaks_the_parser(line: str) -> None:
    parse(line)


@given(st.sampled_from(sorted(LINES)), st.integers(0, 400))
def test_a_line_cut_anywhere_invents_no_power(name: str, at: int) -> None:
    whole = parse(LINES[name])
    cut = parse(LINES[name][:at])
    assert set(cut.power) <= set(whole.power)
