"""The flows' pure decisions."""

from itertools import pairwise

from flows.steps.select import Recorded, group_of, select_clips
from flows.steps.shards import shards_of, side_by_side, waves_of
from flows.steps.split import is_held_out, split_groups


def recorded(number: int, kind: str, event: str | None = None) -> Recorded:
    return Recorded(f"{number:064x}", 10, "trigger", event, kind, f"g{number}")


def test_incidents_come_first_and_each_event_once() -> None:
    items = [recorded(1, "sample"), recorded(2, "collision", "e1"), recorded(3, "collision", "e1")]
    items += [recorded(4, "stuck", "e2"), recorded(5, "sample")]
    chosen = select_clips(items, ["collision"], most_incidents=5, most_samples=2)
    assert [item.sha256[-1] for item in chosen] == ["2", "1", "4"]
    assert select_clips(items, ["collision"], most_incidents=0, most_samples=0) == []


def test_a_group_is_the_workloads_word_else_the_event_else_the_file() -> None:
    assert group_of({"group": "aisle 3"}, "e1", "s") == "aisle 3"
    assert group_of({}, "e1", "s") == "e1"
    assert group_of({"group": ""}, None, "s") == "s"


def test_shards_are_aligned_so_that_their_keys_never_vary() -> None:
    assert shards_of([0, 1, 9], 4) == [(0, 4), (8, 12)]
    assert shards_of([], 4) == []
    assert set(shards_of([5], 4)) <= set(shards_of(range(20), 4))


def test_a_group_falls_on_the_same_side_in_every_dataset() -> None:
    groups = [f"g{number}" for number in range(2000)]
    split = split_groups(groups, 0.2, "salt")
    assert abs(list(split.values()).count("holdout") / 2000 - 0.2) < 0.03
    assert all(split_groups(groups[:500], 0.2, "salt")[g] == split[g] for g in groups[:500])
    assert is_held_out("g1", 1.0, "x")
    assert not is_held_out("g1", 0.0, "x")


def test_few_groups_still_stand_on_both_sides() -> None:
    for salt in map(str, range(50)):
        for share in (0.01, 0.5, 0.99):
            assert set(split_groups(["a", "b", "a"], share, salt).values()) == {"train", "holdout"}
    assert split_groups(["a"], 0.5, "s").keys() == {"a"}
    assert set(split_groups(["a", "b"], 0.0, "s").values()) == {"train"}


def test_waves_cover_what_is_missing_and_add_a_quarter_at_most() -> None:
    waves = list(waves_of(range(2000), 10, 2))
    ends = [max(stop for _, stop in wave) for wave in waves]
    assert [place for wave in waves for start, stop in wave for place in range(start, stop)][:2000] == list(range(2000))
    assert ends[:4] == [20, 40, 60, 80]
    assert all(after - before <= max(20, before // 4) for before, after in pairwise(ends))
    assert len(ends) < 30


def test_a_shard_begins_where_it_does_whatever_is_missing() -> None:
    whole = {shard for wave in waves_of(range(300), 10, 2) for shard in wave}
    some = list(waves_of([5, 131, 299], 10, 2))
    assert {shard for wave in some for shard in wave} <= whole
    assert [len(wave) for wave in some] == [1, 1, 1]
    assert list(waves_of([], 10, 2)) == []


def test_slots_of_a_side_that_has_all_work_for_the_other() -> None:
    waves = [[(0, 10)], [(10, 20)], [(20, 30)], [(30, 40)], [(40, 50)]]
    whole, from_20 = list(range(50)), list(range(20, 50))
    assert list(side_by_side(waves, [whole, whole])) == waves
    assert list(side_by_side(waves, [whole])) == waves
    joined = [[(0, 10), (10, 20)], [(20, 30)], [(30, 40)], [(40, 50)]]
    assert list(side_by_side(waves, [from_20, whole])) == joined
    ends_alone = [[(0, 10), (10, 20)], [(20, 30), (30, 40)], [(40, 50)]]
    assert list(side_by_side(waves, [[], whole])) == ends_alone
