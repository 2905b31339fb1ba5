"""The flows' pure decisions."""

from flows.steps.select import Recorded, group_of, select_clips
from flows.steps.shards import shards_of
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
