"""An incident on its way to a regression test: does it happen again with the model that was to blame?"""

from enum import StrEnum


class ScenarioState(StrEnum):
    EXTRACTED = "extracted"
    REPRODUCES = "reproduces"
    FLAKY = "flaky"
    NOT_REPRODUCED = "not_reproduced"
    ACCEPTED = "accepted"
    RETIRED = "retired"


COUNTS = frozenset({ScenarioState.REPRODUCES, ScenarioState.ACCEPTED})
"""Only these say something about a model: the others fail or pass for reasons of their own."""
BY_PEOPLE = frozenset({ScenarioState.ACCEPTED, ScenarioState.RETIRED})


def state_after(seeds: int, failures: int, before: ScenarioState | None = None) -> ScenarioState:
    """Return the state after `failures` of `seeds` runs with the guilty model; what people decided stands.

    Raises:
        ValueError: the counts are impossible.
    """
    if not 0 <= failures <= seeds or seeds < 1:
        raise ValueError(f"{failures} failures of {seeds} runs is impossible")
    if before in BY_PEOPLE:
        return before
    if failures == seeds:
        return ScenarioState.REPRODUCES
    return ScenarioState.FLAKY if failures else ScenarioState.NOT_REPRODUCED
