"""What speaks against a release before it goes out, in words."""

from dataclasses import replace
from datetime import UTC, datetime

from control_plane.rollout.domain import Chosen, Doubt, Halted, doubts_of

CLEAN = Chosen(counter=5, devices=36, refusing=0, all_counted=True, running=0, halted=())


def test_nothing_is_said_where_nothing_speaks_against_it() -> None:
    assert list(doubts_of(CLEAN)) == []


def test_every_objection_is_a_sentence_and_the_gravest_comes_first() -> None:
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    before = (
        Halted("roll_1", same_release=True, at=at, because="canary is worse than control"),
        Halted("roll_2", same_release=False, at=at, because="a person wanted it"),
    )
    said = list(doubts_of(replace(CLEAN, refusing=9, running=1, halted=before)))
    assert said[0] == Doubt(
        "this release was halted before, on 2026-01-02 03:04 UTC: canary is worse than control", "roll_1"
    )
    assert said[1].words.startswith("another release of the same content was halted before")
    assert said[2].words.startswith("9 of 36 devices would refuse it: its counter is 5")
    assert said[3] == Doubt("1 of 36 devices run this content already")


def test_a_count_that_stopped_is_a_lower_bound() -> None:
    [doubt] = doubts_of(replace(CLEAN, devices=100_000, refusing=10_000, all_counted=False))
    assert doubt.words.startswith("at least 10,000 of 100,000 devices would refuse it")
