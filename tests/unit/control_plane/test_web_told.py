"""Mappings told line by line, gate policies as rules, names with their units."""

from types import SimpleNamespace

from control_plane.evaluation.schemas import MetricPairItem, SuiteComparison
from control_plane.rollout.domain import without_override
from control_plane.web.charts import Whisker, whiskers
from control_plane.web.comparison import simulated
from control_plane.web.names import Names
from control_plane.web.render import NONE, with_unit
from control_plane.web.told import rules_of, told

VERSION = "f" * 64
NAMES = Names({"m": None}, {VERSION: SimpleNamespace(version=3, model="m")})  # type: ignore[dict-item]


def test_ids_lead_to_their_pages_and_nothing_is_raw() -> None:
    lines = told(NAMES, {"champion": VERSION, "gate": "gate_01abcdefghij", "dataset": "d" * 64, "seed": 1, "of": None})
    assert [(t.name, t.words, t.href) for t in lines] == [
        ("champion", "v3", f"/versions/{VERSION}"),
        ("gate", "gate_…efghij", "/gates/gate_01abcdefghij"),
        ("dataset", "d" * 12, f"/lineage/dataset/{'d' * 64}"),
        ("seed", "1", ""),
        ("of", NONE, ""),
    ]


def test_what_lies_deeper_is_named_by_its_path() -> None:
    lines = told(NAMES, {"replays": {"scenarios": 0, "why_not": "nobody asks"}, "stopped": ["a", "b"]})
    assert [(t.name, t.words) for t in lines] == [
        ("replays scenarios", "0"),
        ("replays why not", "nobody asks"),
        ("stopped", "a; b"),
    ]


def test_an_address_cannot_be_left_by_a_hostile_id() -> None:
    (line,) = told(NAMES, {"gate": 'gate_/../"><script>'})
    assert line.href == "/gates/gate_%2F..%2F%22%3E%3Cscript%3E"


def test_a_policys_parts_are_told_with_their_limits() -> None:
    parts = [
        {"suite": "nominal", "rule": "non_inferior", "margin": 0.03, "once": True},
        {"suite": "nominal", "rule": "mean_ratio_at_most", "metric": "duration_s", "bound": 1.1, "limits": [0, 41]},
        {"rule": "reviews_closed"},
    ]
    assert [(r.rule, r.metric, r.limits) for r in rules_of(parts, "incident")] == [
        ("non inferior", "incident", "margin 0.03, once"),
        ("mean ratio at most", "duration s", "bound 1.1, limits 0, 41"),
        ("reviews closed", "incident", NONE),
    ]


def test_metrics_are_compared_over_what_both_have() -> None:
    found = SuiteComparison(
        suite="s",
        suite_name="nominal",
        first_scenarios=270,
        second_scenarios=400,
        common_scenarios=270,
        metrics=[
            MetricPairItem(
                metric="incident", scenarios=270, first=0.02, second=0.01, yes_or_no=True, higher=1, lower=4
            ),
            MetricPairItem(
                metric="min_ttc_s", scenarios=270, first=2.0, second=3.0, yes_or_no=False, higher=9, lower=9
            ),
        ],
    )
    table = simulated(found)
    assert table.told.startswith("Over the 270 scenarios that both have a result of (driven in 270 and 400).")
    assert [(r.name, r.first, r.second, r.change) for r in table.rows] == [
        ("incident", "2 %", "1 %", "+1 -4"),
        ("min ttc, s", "2", "3", "+50 %"),
    ]


def test_names_with_a_unit_say_it() -> None:
    assert [with_unit(n) for n in ("min_clearance_m", "near_miss", "m")] == ["min clearance, m", "near miss", "m"]


def test_the_override_is_told_once() -> None:
    assert without_override("every device is back [the gate said fail; overridden: I insist]") == "every device is back"
    assert without_override("every device is back") == "every device is back"


def test_words_of_lines_that_are_near_lean_away_from_each_other() -> None:
    item = Whisker("a", 0.5, 1.0, 2.0, "s0", "1")
    near = whiskers("t", [item], "ratio", lines=[(1.0, "equal"), (1.1, "margin 1.1")], log=True, width=560)
    assert 'text-anchor="end">equal' in near
    assert 'text-anchor="start">margin' in near
    far = whiskers("t", [item], "ratio", lines=[(0.5, "low"), (2.0, "high")], log=True, width=560)
    assert 'text-anchor="middle">low' in far
