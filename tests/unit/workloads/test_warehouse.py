import math
from dataclasses import replace

import numpy as np
import pytest

from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.types import WorkloadError
from flows.workloads.warehouse_amr.layout import Layout, on_route
from flows.workloads.warehouse_amr.observation import MIRROR_VECTOR
from flows.workloads.warehouse_amr.rollout import Driver, labelled, outcomes
from flows.workloads.warehouse_amr.scenario import Scenario, from_json, to_json
from flows.workloads.warehouse_amr.scenarios import NOMINAL, SITES, draw, suite_scenarios, vary
from flows.workloads.warehouse_amr.world import box_distance_m, line_of_sight


@pytest.fixture(scope="module")
def missions() -> list[Scenario]:
    return [draw(SITES["cold_store"], seed) for seed in range(9)]


@pytest.fixture(scope="module")
def expected(missions: list[Scenario], reckless: Policy) -> list[dict[str, float]]:
    return [outcome.metrics() for outcome in outcomes(missions, reckless, slots=9)]


@pytest.mark.parametrize(("slots", "threads"), [(9, 2), (4, 1)])
def test_a_mission_ends_the_same_whatever_the_batch_and_threads(
    slots: int, threads: int, missions: list[Scenario], expected: list[dict[str, float]], reckless: Policy
) -> None:
    found = [outcome.metrics() for outcome in outcomes(missions, reckless, slots=slots, threads=threads)]
    assert found == expected


def test_a_mission_ends_the_same_alone_and_in_any_order(
    missions: list[Scenario], expected: list[dict[str, float]], reckless: Policy
) -> None:
    assert outcomes([missions[7]], reckless)[0].metrics() == expected[7]
    found = outcomes(missions[::-1], reckless, slots=4)
    assert [outcome.metrics() for outcome in found[::-1]] == expected


def test_the_teacher_drives_everyday_missions_safely() -> None:
    found = outcomes([draw(NOMINAL, 1000 + seed) for seed in range(40)], None)
    assert [outcome.kind for outcome in found].count(None) == 40
    assert np.mean([outcome.duration_s for outcome in found]) < 25


def test_the_teacher_avoids_most_of_what_the_field_has() -> None:
    found = outcomes([draw(SITES["cold_store"], 500 + seed) for seed in range(40)], None)
    assert sum(outcome.kind is not None for outcome in found) <= 4


def test_labels_do_not_depend_on_the_batch(missions: list[Scenario], reckless: Policy) -> None:
    driver = Driver(reckless, teacher_share=0.25, label=True)
    _, wide = labelled(missions[4:7], driver, slots=3)
    _, narrow = labelled(missions[4:7], driver, slots=2)
    for name in ("scenario", "scan", "vec", "label"):
        assert np.array_equal(getattr(wide, name), getattr(narrow, name))
    assert wide.scan.dtype == np.float16


def test_a_site_and_seed_give_one_mission() -> None:
    assert draw(SITES["annex"], 5) == draw(SITES["annex"], 5)
    assert draw(SITES["annex"], 5) != draw(SITES["annex"], 6)


def test_a_scenario_survives_json() -> None:
    for seed in range(20):
        scenario = vary(draw(SITES["cold_store"], seed), seed)
        assert from_json(to_json(scenario), "here") == scenario


@pytest.mark.parametrize(
    "change",
    [
        {"friction": math.nan},
        {"friction": 0.0},
        {"aisle_width_m": 1e9},
        {"turn_opening": 9},
        {"movers": [{"kind": "x", "x_m": 0, "y_m": 0, "wings": 2}]},
        {"movers": [{"kind": "x", "x_m": math.inf, "y_m": 0}]},
        {"movers": [{"kind": "x", "x_m": 0, "y_m": 0}] * 5},
        {"pallets": [[1, 2]]},
        {"opening_x_m": "abc"},
        {"colour": "red"},
        {"payload_kg": "heavy"},
    ],
)
def test_an_impossible_scenario_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(WorkloadError, match=r"clip\.mcap"):
        from_json({**to_json(draw(NOMINAL, 1)), **change}, "clip.mcap")


def test_suites_have_what_was_asked_for() -> None:
    field = suite_scenarios("field", 9, 3)
    assert [tag for entry in field for tag in entry.tags if tag.startswith("site:")].count("site:annex") == 3
    assert field == suite_scenarios("field", 9, 3)
    assert field != suite_scenarios("field", 9, 4)
    assert len({entry.id for entry in field}) == 9


def test_a_regression_suite_varies_incidents_and_remembers_them() -> None:
    incidents = [("event-1", draw(SITES["hall"], 1)), ("event-2", draw(SITES["hall"], 2))]
    entries = suite_scenarios("regression", 5, 3, incidents)
    assert [entry.cluster for entry in entries] == ["event-1", "event-1", "event-1", "event-2", "event-2"]
    assert [entry.source for entry in entries] == [entry.cluster for entry in entries]
    assert len({entry.seed for entry in entries}) == 5
    with pytest.raises(WorkloadError, match="recordings"):
        suite_scenarios("regression", 5, 3, [])


def test_an_incident_is_driven_again_as_it_was_with_other_noise() -> None:
    incidents = [(f"event-{i}", draw(SITES["hall"], i)) for i in range(4)]
    entries = suite_scenarios("reproduction", 6, 3, incidents, repeat=3)
    assert [entry.repeats for entry in entries] == ["event-0"] * 3 + ["event-1"] * 3
    assert len({entry.seed for entry in entries}) == 6
    plain = [{key: value for key, value in entry.params.items() if key != "seed"} for entry in entries]
    assert plain[0] == plain[1] == plain[2] != plain[3]
    with pytest.raises(WorkloadError, match="reproduction suite needs recordings"):
        suite_scenarios("reproduction", 6, 3, [], 3)


def test_geometry() -> None:
    boxes = np.array([[[5, 0, 1, 1], [0, 9, 1, 1]]], np.float32)
    assert box_distance_m(boxes, np.array([2.0]), np.array([0.0]))[0] == pytest.approx(2.0)
    assert box_distance_m(boxes, np.array([5.0]), np.array([0.0]))[0] == pytest.approx(-1.0)
    targets = np.array([[[8, 0], [0, 6]]], np.float32)
    seen = line_of_sight(boxes, np.zeros(1), np.zeros(1), targets, np.full((1, 2), 0.3))
    assert seen.tolist() == [[False, True]]


def test_routes_turn() -> None:
    route = np.array([[[0, 0], [10, 0], [10, 4]]], np.float32)
    where = on_route(route, np.array([10.2]), np.array([1.0]), 1.5)
    assert where.progress_m[0] == pytest.approx(11.0)
    assert where.length_m[0] == pytest.approx(14.0)
    assert where.ahead[0] == pytest.approx([10.0, 2.5])


def test_the_mirrored_world_is_the_same_problem(reckless: Policy) -> None:
    """A scenario mirrored left to right gives the mirrored observation: what the augmentation relies on."""
    scenario = replace(draw(NOMINAL, 4), range_noise_m=0.0, dropout=0.0, turn_opening=0)
    flipped = replace(
        scenario,
        pallets=tuple((x, -y, length, width) for x, y, length, width in scenario.pallets),
        movers=tuple(replace(mover, y_m=-mover.y_m, vy_mps=-mover.vy_mps) for mover in scenario.movers),
    )
    (_, straight), (_, mirrored) = (labelled([one], Driver()) for one in (scenario, flipped))
    np.testing.assert_allclose(mirrored.scan[:20, :, ::-1], straight.scan[:20], atol=0.02)
    np.testing.assert_allclose(mirrored.vec[:20] * MIRROR_VECTOR, straight.vec[:20], atol=1e-3)


def test_unused_movers_and_boxes_are_far_away() -> None:
    layout = Layout.of([replace(draw(NOMINAL, 4), movers=(), pallets=())])
    assert (layout.mover["x_m"] > 100).all()
    assert (layout.boxes[0, 12:, 1] > 100).all()
