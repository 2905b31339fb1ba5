"""What a rollout's page says of why it was halted, and which evidence it draws."""

from datetime import UTC, datetime, timedelta
from typing import Any

from control_plane.rollout.domain import Phase
from control_plane.rollout.schemas import DecisionItem
from control_plane.web.render import NONE
from control_plane.web.weighing import evidence_picture, evidence_plot, figures_of, halted_because, marks_of

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def decision(number: int, phase: Phase, because: str, stage: int = 0, **figures: Any) -> DecisionItem:
    at = T0 + timedelta(minutes=number)
    return DecisionItem(number=number, at=at, phase=phase, stage=stage, because=because, figures=figures)


HALTED = [
    decision(1, Phase.ROLLING, "watching", harm_e=1.2, harm_e_needed=25.0, gravest_e=3.0, gravest_e_needed=100.0),
    decision(2, Phase.ROLLING, "watching", harm_e=2.0, harm_e_needed=25.0, gravest_e=60.0, gravest_e_needed=100.0),
    decision(3, Phase.HALTING, "10 events of the gravest kind", harm_e=5.0, harm_e_needed=25.0, gravest_e=129.0,
             gravest_e_needed=100.0),
    decision(4, Phase.HALTED, "every device is back", harm_e=5.0, harm_e_needed=25.0, gravest_e=129.0),
]  # fmt: skip


def test_the_sentence_that_halted_it_is_found() -> None:
    assert halted_because(HALTED) == "10 events of the gravest kind"
    assert halted_because(HALTED[:2]) == ""


def test_the_evidence_that_decided_is_drawn_with_the_moment() -> None:
    drawn = str(evidence_picture(HALTED))
    assert "gravest" in drawn
    assert "halted" in drawn
    assert ">safe<" not in drawn  # nobody weighed it
    assert "gravest" not in str(evidence_picture([decision(n, Phase.ROLLING, "", harm_e=1.0) for n in (1, 2)]))


def test_the_plot_tells_the_same_as_the_picture() -> None:
    plot = evidence_plot(HALTED)
    assert [line["name"] for line in plot["lines"]] == ["harm", "gravest"]
    assert plot["lines"][1]["y"] == [3.0, 60.0, 129.0, 129.0]
    # The last decision does not say any more what was needed.
    assert [level["words"] for level in plot["levels"]] == ["harm: 25 decides", "gravest: 100 decides"]
    assert plot["marks"][-1] == {"x": HALTED[2].at.timestamp(), "words": "halted"}


def test_stages_and_the_halt_are_marked_once() -> None:
    began = [decision(1, Phase.ROLLING, "", 0), decision(2, Phase.ROLLING, "", 1), decision(3, Phase.HALTING, "", 1)]
    marks = marks_of([*began, decision(4, Phase.HALTING, "", 1)])
    assert [words for _, words in marks] == ["stage 1", "stage 2", "halted"]
    assert marks[-1][0] == began[2].at


def test_figures_have_their_unit() -> None:
    told = dict(
        figures_of({"canary_exposure": 2736.0, "stage_cap": 1e9, "harm_e": 4.26, "ratio_high": None}, "distance_m")
    )
    assert told == {"canary exposure": "2.74 km", "stage cap": "no limit", "harm e": "4.26", "ratio high": NONE}
    assert dict(figures_of({"canary_exposure": 5400.0}, "duration_s")) == {"canary exposure": "1.5 hours"}
