"""Joining what hidden nodes stand between, and arranging what is left around one thing."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from control_plane.lineage.domain import Edge, Kind, Node, bridged
from control_plane.lineage.schemas import LineageEdgeItem, LineageNode
from control_plane.web.kinship import ROOT, Words, draw, family_of, levels

START = datetime(2026, 1, 1, tzinfo=UTC)
LETTERS = {"d": Kind.DEVICE, "e": Kind.FIELD_EVENT, "r": Kind.RECORDING, "s": Kind.DATASET, "t": Kind.TRAINING}
LETTERS |= {"v": Kind.MODEL_VERSION, "g": Kind.GATE, "o": Kind.ROLLOUT}
MOST = 10_000


def node(name: str) -> Node:
    return Node(LETTERS[name[0]], name)


def edges(*ways: str) -> list[Edge]:
    """Make edges of "source>target", each a minute after the other."""
    pairs = [way.split(">") for way in ways]
    return [Edge(node(a), node(b), "made", START + timedelta(minutes=i)) for i, (a, b) in enumerate(pairs)]


def items(*ways: str) -> list[LineageEdgeItem]:
    return [
        LineageEdgeItem(source=thing(e.source.name), target=thing(e.target.name), relation=e.relation, at=START)
        for e in edges(*ways)
    ]


def thing(name: str) -> LineageNode:
    return LineageNode(kind=LETTERS[name[0]], name=name)


CHAIN = ("s1>v1", "r1>s1", "r2>s1", "e1>r1", "e2>r2", "d1>e1", "d1>e2", "t1>v1", "s1>t1")


def test_what_stood_between_is_joined_and_named() -> None:
    found, cut = bridged(node("v1"), edges(*CHAIN), {Kind.DEVICE, Kind.DATASET}, MOST)
    assert not cut
    said = {(e.source.name, e.target.name, e.relation) for e in found}
    assert said == {
        ("s1", "v1", "made"),
        ("s1", "v1", "through training"),
        ("d1", "s1", "through field_event, recording"),
    }
    joined = next(e for e in found if e.source.name == "d1")
    assert joined.at == START + timedelta(minutes=5)  # as young as the youngest edge on its way


def test_the_root_stays_and_a_circle_ends() -> None:
    round_ = edges("d1>e1", "e1>r1", "r1>s1", "s1>v1", "v1>o1", "o1>d1")
    found, _ = bridged(node("v1"), round_, {Kind.ROLLOUT}, MOST)
    assert {(e.source.name, e.target.name) for e in found} == {("v1", "o1"), ("o1", "v1")}


def test_looking_is_bounded_and_says_so() -> None:
    star = edges(*(f"d{i}>e{i}" for i in range(50)), *(f"e{i}>v1" for i in range(50)))
    assert bridged(node("v1"), star, {Kind.DEVICE}, 10)[1] is True
    assert bridged(node("v1"), star, {Kind.DEVICE}, MOST)[1] is False


names = st.sampled_from([f"{letter}{n}" for letter in LETTERS for n in range(3)])


@given(ways=st.lists(st.tuples(names, names), max_size=30), shown=st.sets(st.sampled_from(list(Kind))))
def test_nothing_hidden_is_left_and_nothing_shown_is_lost(ways: list[tuple[str, str]], shown: set[Kind]) -> None:
    given_, root = edges(*(f"{a}>{b}" for a, b in ways)), node("v0")
    found, _ = bridged(root, given_, shown, MOST)
    ends = {n for e in found for n in (e.source, e.target)}
    assert all(n == root or n.kind in shown for n in ends)
    plain = {e for e in given_ if all(n == root or n.kind in shown for n in (e.source, e.target))}
    assert {(e.source, e.target, e.relation) for e in plain} <= {(e.source, e.target, e.relation) for e in found}


def test_data_stands_behind_the_training_that_used_it() -> None:
    place = levels(thing("v1"), items("t1>v1", "s1>v1", "s1>t1", "r1>s1", "e1>r1"), up=True)
    assert {n.name: level for n, level in place.items()} == {"v1": 0, "t1": 1, "s1": 2, "r1": 3, "e1": 4}


def test_things_made_from_each_other_do_not_hang_it() -> None:
    place = levels(thing("v1"), items("s1>v1", "s2>v1", "s1>s2", "s2>s1"), up=True)
    assert set(place) == {thing("v1"), thing("s1"), thing("s2")}


def test_the_first_of_a_kind_are_shown_and_the_rest_counted() -> None:
    up = items("s1>v1", *(f"r{i}>s1" for i in range(9)))
    family = family_of(thing("v1"), up, items("v1>g1"), shown=(4, 2))
    assert family is not None
    more = [spot for spot in family.spots if spot.node is None]
    assert [(spot.column, spot.kind, spot.more) for spot in more] == [(-2, Kind.RECORDING, 5)]
    assert (ROOT, "1:gate:g1", "made") in family.ways
    assert family_of(thing("v1"), [], []) is None


def test_words_in_a_picture_are_escaped() -> None:
    evil = LineageNode(kind=Kind.FIELD_EVENT, name='"><script>')
    edge = LineageEdgeItem(source=thing("d1"), target=evil, relation="<b>", at=START)
    family = family_of(evil, [edge], [])
    labels = {evil: evil.name, thing("d1"): "<i>"}
    drawn = str(draw(family, "<u>", Words(labels, lambda n: f'/x?"{n.name}')))
    assert "<script>" not in drawn
    assert "<b>" not in drawn
    assert "<u>" not in drawn
    assert '="/x?"' not in drawn
