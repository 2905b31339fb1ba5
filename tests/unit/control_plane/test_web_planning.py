"""What a person fills into the wizard becomes a plan, or a sentence that says what is wrong."""

from datetime import UTC, datetime
from typing import Any

import pytest

from agents.protocol.v1 import TensorSpec
from control_plane.fleet.domain import StratumSize
from control_plane.kit.errors import Invalid
from control_plane.registry.schemas import Contract, ModelItem, Tolerance
from control_plane.rollout.domain import Control
from control_plane.web.charts.whiskers import log_marks
from control_plane.web.needs import needs_picture
from control_plane.web.planning import days_of, filled, known_sites, plan_of, reach_of, sites_of

TENSOR = TensorSpec(name="scan", dtype="float32", shape=("N", 8), unit="m")


def model(**rollout: Any) -> ModelItem:
    contract = Contract(inputs=[TENSOR], outputs=[TENSOR], golden=Tolerance(rtol=0, atol=0))
    return ModelItem(
        name="m",
        title="M",
        contract=contract,
        events={},
        exposure="distance_m",
        gate={},
        rollout=rollout,
        created_at=datetime.now(UTC),
    )


def test_the_usual_plan_proves_first_and_then_widens() -> None:
    plan = plan_of(filled({}, model()), model())
    assert [(s.fraction, s.must_prove) for s in plan.stages] == [(0.1, True), (0.5, False), (1.0, False)]
    assert (plan.stages[0].max_exposure, plan.stages[0].deadline_s) == (20_000.0, 7 * 86_400.0)
    assert (plan.margin, plan.control, plan.windows) == (1.0, Control.CONCURRENT, [])


def test_the_models_own_plan_is_where_one_begins() -> None:
    mine = model(stages=[{"fraction": 0.25, "max_exposure": 5000, "deadline_s": 86_400}], margin=0.5, site_budget=2)
    fields = filled({}, mine)
    assert (fields["stages"], fields["deadline"], fields["most"], fields["margin"]) == ("25", "1 day", "5", "50")
    assert plan_of(fields, mine).site_budget == 2


def test_what_is_given_counts() -> None:
    given = {"stages": "5 50% 100", "deadline": "2 d", "margin": "25", "control": "both", "cell_budget": "1"}
    given |= {"window": "Europe/Berlin 22:00-05:00 mon,tue; UTC 01:00-02:00", "safe_state": "stopped"}
    plan = plan_of(filled(given, model()), model())
    assert [s.fraction for s in plan.stages] == [0.05, 0.5, 1.0]
    assert (plan.margin, plan.control, plan.cell_budget, plan.safe_state) == (0.25, Control.BOTH, 1, "stopped")
    assert [(w.zone, w.start, w.days[:2]) for w in plan.windows] == [
        ("Europe/Berlin", "22:00", ["mon", "tue"]),
        ("UTC", "01:00", ["mon", "tue"]),
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stages": "fifty"}, "'fifty' is no number"),
        ({"stages": ""}, "name 1 to 20 shares"),
        ({"stages": "10, 110"}, "fraction: Input should be less than or equal to 1"),
        ({"stages": "50, 10"}, ""),
        ({"deadline": "-1"}, "is no time"),
        ({"deadline": "3 fortnights"}, "is no time"),
        ({"deadline": "3"}, "with its unit"),
        ({"stages": "50, 25"}, "more devices than the one before"),
        ({"most": "nan"}, "is no number"),
        ({"margin": "0"}, "margin"),
        ({"control": "<script>"}, "control"),
        ({"window": "tonight"}, "a window is"),
        ({"window": "Nowhere/Land 22:00-05:00"}, ""),
        ({"window": f"{'z' * 80} 22:00-05:00"}, "zone"),
        ({"site_budget": "0"}, "site_budget"),
        ({"safe_state": "fast and furious >"}, ""),
    ],
)
def test_what_cannot_be_read_is_said(given: dict[str, str], said: str) -> None:
    with pytest.raises(Invalid) as error:
        plan_of(filled(given, model()), model())
    assert said in error.value.detail


def test_a_plan_says_whom_it_reaches() -> None:
    plan = plan_of(filled({"stages": "10, 50, 100"}, model()), model())
    reach = reach_of([StratumSize("south", "cart", 40), StratumSize("north", "cart", 1)], plan)
    assert [(r.site, r.devices, r.by_stage) for r in reach] == [("north", 1, [0, 0, 1]), ("south", 40, [4, 20, 40])]
    assert (sites_of(""), sites_of(" a ,b,, ")) == (None, ["a", "b"])


def test_a_time_is_read_as_people_write_it() -> None:
    found = [days_of(text) for text in ("7 days", "12 h", "30 min", "90s")]
    assert found == pytest.approx([7, 0.5, 30 / 1440, 90 / 86400])


def test_a_site_that_is_not_there_is_said() -> None:
    assert known_sites("", {"hall"}) is None
    assert known_sites("hall, annex", {"hall", "annex"}) == ["hall", "annex"]
    with pytest.raises(Invalid, match=r"no site 'moon'.*annex, hall"):
        known_sites("hall, moon", {"hall", "annex"})


def test_a_logarithmic_axis_holds_what_is_drawn() -> None:
    for values in ([0.000059, 0.0104], [1.0, 1.5], [0.3, 1e21], [5.0]):
        marks = log_marks(values)
        assert marks[0] <= min(values) * (1 + 1e-9), values
        assert marks[-1] >= max(values) * (1 - 1e-9), values
        assert 2 <= len(marks) <= 9, values
        assert marks == sorted(set(marks))


def test_the_picture_of_needs_has_room_for_its_labels() -> None:
    amount = {"exposure": 18.0, "days": 2.0, "in_time": True}
    need = {"stage": 0, "ratio": 2.0, "fraction": 0.25, "canary_devices": 9, "control_devices": 27}
    picture = needs_picture({"needs": [need | {"to_see": amount, "to_prove": amount}]}, [{"deadline_s": 86_400.0}])
    assert picture is not None
    assert "stage 1, no worse" in picture
    assert "stage 1, see 2 times" in picture
