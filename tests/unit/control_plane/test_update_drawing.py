"""The update machine that pages draw is the one that devices run: every edge, with every sentence."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from typing import Any

from agents.protocol.v1 import DeploymentPhase
from agents.update.machine import Policy, Seen, Slot, State, Target, decide
from control_plane.web.charts import machine
from control_plane.web.machine import ENDS, ROAD, STEPS, ways, ways_on

ACTIVE, FALLBACK, CANDIDATE = Slot("a", "ra", "ca", 3), Slot("b", "rf", "cf", 2), Slot("b", "r1", "c1", 5)
ORDERED, RUNNING = Target("r1", 10, 5), Target("ra", 10, 3)
NEWS: dict[str, list[Any]] = {
    "order": [None, Target("r2", 10, 6), Target("r0", 10, 1), RUNNING],
    "damaged": [frozenset({ACTIVE.link})],
    "revoked": [frozenset({"ra"}), frozenset({"r1"})],
    "content_digest": ["c1"],
    "complete": [True],
    "refusal": ["wrong_device_class"],
    "staged": [True],
    "qualified": [True, False],
    "shadow_passed": [True, False],
    "health": [True, False],
    "trial_elapsed_s": [1e9],
    "just_started": [True],
}
"""What may be so beside the ordinary; two of these at a time are enough to go every way."""


def states(phase: DeploymentPhase) -> Iterator[State]:
    slots = product([None, ACTIVE], [None, FALLBACK], [None, CANDIDATE])
    for (active, fallback, candidate), target, starts in product(slots, (ORDERED, RUNNING), (0, 9)):
        bad = (("c1", 5),) if starts else ()
        yield State(phase, None, "", target, candidate, active, fallback, 3, starts, bad)


def sights(state: State) -> Iterator[Seen]:
    link = state.active.link if state.active else None
    plain = Seen(order=state.target, order_known=True, order_fresh=True, link=link)
    for names in (names for many in range(3) for names in combinations(NEWS, many)):
        for values in product(*(NEWS[name] for name in names)):
            yield replace(plain, **dict(zip(names, values, strict=True)))


def edges() -> dict[tuple[str, str], set[str]]:
    """Find every edge by letting the device's machine decide."""
    found: dict[tuple[str, str], set[str]] = {}
    policies = [Policy(shadow_s=0.0, health_required=True), Policy(shadow_s=5.0, health_required=False)]
    for phase in DeploymentPhase:
        for state, policy in product(states(phase), policies):
            for seen in sights(state):
                made = decide(state, seen, policy)
                if made.state.phase is not phase:
                    found.setdefault((phase.value, made.state.phase.value), set()).add(made.because)
    return found


def test_the_pages_know_every_edge_of_the_device_and_no_other() -> None:
    assert {edge: set(said) for edge, said in ways().items()} == edges()


def test_every_phase_stands_once_in_the_picture() -> None:
    assert {*ROAD, *ENDS} == {phase.value for phase in DeploymentPhase}
    assert len(ROAD) + len(ENDS) == len(DeploymentPhase)
    for phase in DeploymentPhase:
        drawn = str(machine("its way", ROAD, ENDS, STEPS.keys(), phase.value))
        assert drawn.count("it is here") == 1
        assert drawn.count('class="way out"') == len({edge for edge in STEPS if edge[0] == phase.value})
        assert drawn.count("<title>") == 2 + len(STEPS)
        assert all(target in {*ROAD, *ENDS} for target, _ in ways_on(phase.value))


def test_a_phase_nobody_knows_is_drawn_nowhere() -> None:
    assert "it is here" not in machine("its way", ROAD, ENDS, STEPS.keys(), "<b>flying</b>")
