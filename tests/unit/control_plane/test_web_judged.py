"""What a gate found, in words."""

from datetime import UTC, datetime

from control_plane.evaluation.domain import Verdict
from control_plane.evaluation.schemas import FlipItem, GateItem, PathItem
from control_plane.evaluation.service.dossiers import _path
from control_plane.web.charts import Share, SharedBar, shared_bars
from control_plane.web.judged import (
    cluster_words,
    device_of,
    in_turn,
    judged_by,
    levels,
    looked,
    plot_of,
    progress,
    unit_of,
)
from control_plane.web.render import after_verdict, counted, money

CLUSTER = "dev_01m8dmvr9q194edjd0meqbbamr.18ebcd2d068b869b.13"


def test_a_level_says_whose_it_is() -> None:
    assert [level["words"] for level in levels({"safe": 40.0, "harm": 20.0})] == [
        "harm: 20 decides",
        "safe: 40 decides",
    ]
    assert [level["words"] for level in levels({"under": 40.0, "over": 40.0})] == ["over, under: 40 decides"]


def test_two_lines_of_a_part_look_different() -> None:
    for pair in (["harm", "safe"], ["over", "under"], ["gain", "harm"]):
        path = PathItem(suite="s", rule="r", metric="m", seen=[1], e_values={n: [1.0] for n in pair}, needed={})
        first, second = plot_of(path)["lines"]
        assert (first["series"], first["dashed"]) != (second["series"], second["dashed"])
        assert first["series"] != second["series"]


def test_a_cluster_is_named_by_robot_and_event() -> None:
    device = device_of(CLUSTER)
    assert device == "dev_01m8dmvr9q194edjd0meqbbamr"
    assert cluster_words(CLUSTER, {device: "amr-7"}, {CLUSTER: 12}) == "amr-7, event 12"
    assert cluster_words(CLUSTER, {}, {}) == f"…{CLUSTER[-9:]}"
    assert cluster_words("nominal-00000", {}, {}) == "nominal-00000"
    assert device_of("a.b.c") is None


def test_what_can_be_looked_at_comes_first_then_what_broke() -> None:
    flips = [
        FlipItem(suite="s", scenario=n, cluster="c", broke=b) for n, b in (("a", False), ("b", True), ("c", False))
    ]
    assert [flip.scenario for flip in in_turn(flips, {("s", "c")})] == ["c", "b", "a"]


def test_counts_have_units() -> None:
    assert unit_of("harm_decided_after") == "independent situations"
    assert unit_of("pairs") == "scenarios"
    assert unit_of("power") == ""


def test_small_money_is_not_nothing() -> None:
    assert [money(usd) for usd in (0, 0.00001, 0.0002, 250)] == ["$0.00", "< $0.0001", "$0.0002", "$250.00"]


def test_counts_and_verdicts_read_well() -> None:
    assert (counted(1, "part"), counted(2, "part"), counted(2, "box", "boxes")) == ("1 part", "2 parts", "2 boxes")
    assert after_verdict("fail: nominal is worse", "fail") == "nominal is worse"


def test_a_long_note_beside_the_longest_bar_has_room() -> None:
    picture = shared_bars("t", [SharedBar("train", [Share("wall", 5, "compute")], "10.3 min, 618 J est.")], 600)
    start = float(picture.split('class="row-note"')[0].rsplit('x="', 1)[1].split('"')[0])
    assert start + 6.5 * len("10.3 min, 618 J est.") <= 600


def test_only_a_gate_that_decided_makes_the_rest_needless() -> None:
    gates = [_gate(Verdict.FAIL, "eval_1"), _gate(Verdict.INCONCLUSIVE, "eval_2")]
    assert judged_by(gates) == {"eval_1"}


def test_an_evaluation_that_is_not_needed_says_so() -> None:
    assert progress(0, 400, judged=True) == "not needed: the gate had decided"
    assert progress(180, 400, judged=True) == "stopped early: the gate had decided"
    assert progress(180, 400, judged=False) == "under way"
    assert progress(400, 400, judged=True) == ""


def _gate(verdict: Verdict, evaluation: str) -> GateItem:
    return GateItem(
        id="gate_1",
        model="m",
        candidate="c",
        champion=None,
        policy_digest="p",
        evidence={"evaluations": [evaluation]},
        attempt=1,
        verdict=verdict,
        because="",
        parts=[],
        flips=[],
        device_classes=[],
        evidence_sha256="",
        looks={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_a_path_ends_with_the_last_scenario_that_was_driven() -> None:
    points = [
        (60, {"pairs": 60, "harm_e": 1.0}),
        (120, {"pairs": 90, "harm_e": 2.0}),
        (180, {"pairs": 90, "harm_e": 2.0}),
    ]
    path = _path("nominal", "improves", "incident", points)
    assert (path.seen, path.e_values) == ([60, 90], {"harm": [1.0, 2.0]})
    assert _path("nominal", "improves", "incident", points[:1]).seen == [60]


def test_looks_say_when_the_candidate_had_no_result_there() -> None:
    assert looked(1, [45, 45]) == "1 candidate, this one included"
    assert looked(3, None) == "3 candidates, this one included"
    assert looked(2, [0, 45]) == (
        "named in the gates of 2 candidates, this one included, which was decided without a result of its own there"
    )
