"""The device's way through an update, as pages draw and tell it: the phases, and every way from one to another.

The device's own table is the truth (`agents.update.machine`, which the server must not import); a test finds every edge
that it can take, with its sentence, and compares them with these.
"""

from collections.abc import Iterator, Mapping
from typing import Final

Edge = tuple[str, str]
Sentences = tuple[str, ...]

ROAD: Final = ("idle", "downloading", "verified", "qualifying", "shadow", "armed", "trial", "committed")
ENDS: Final = ("refused", "reverted")
STEPS: Final[Mapping[Edge, Sentences]] = {
    ("downloading", "verified"): ("every file is here and verified",),
    ("downloading", "refused"): (
        "the release must not be installed",
        "this content failed here before under this counter",
    ),
    ("verified", "qualifying"): ("the slot is written",),
    ("verified", "downloading"): ("a file went missing before it was staged",),
    ("qualifying", "refused"): ("the agent died here too often", "the model did not qualify on this device"),
    ("qualifying", "shadow"): ("the model qualified and is tried in the shadow of the active one",),
    ("qualifying", "armed"): ("the model qualified on this device",),
    ("shadow", "verified"): ("the slot vanished under the shadow",),
    ("shadow", "refused"): ("the candidate did not do in the shadow what it should",),
    ("shadow", "armed"): (
        "no shadow is asked for any more",
        "the candidate did in the shadow what it should",
    ),
    ("armed", "verified"): ("the slot vanished",),
    ("armed", "trial"): ("the trial begins",),
    ("trial", "committed"): (
        "the application says the model runs",
        "the trial ended without a complaint, and none is required",
    ),
    ("trial", "reverted"): (
        "no word on the model's health before the deadline",
        "the application says the model does not run",
        "the device started again too often during the trial",
    ),
    ("trial", "idle"): ("the order was withdrawn during the trial: back to the previous model",),
    ("committed", "reverted"): ("the application says later that the model does not run",),
}
"""What a phase of its own leads to."""
ORDERED: Final[Mapping[str, Sentences]] = {
    "idle": ("nothing is ordered: what runs goes on running",),
    "downloading": ("another release is ordered",),
    "committed": ("the ordered release runs already",),
    "refused": ("the ordered counter is below the floor",),
}
"""Where another order leads from every phase but a trial, which is withdrawn first."""
HARMED: Final[Mapping[str, Sentences]] = {
    "idle": ("the active release was revoked: it is left at once", "the active slot is damaged: back to the other one"),
    "reverted": ("the active release was revoked: it is left at once",),
    "refused": ("the release on its way here was revoked",),
}
"""Where damage and revocations lead from every phase."""


def ways() -> dict[Edge, frozenset[str]]:
    """Return every edge with its sentences."""
    found: dict[Edge, frozenset[str]] = {}
    for edge, sentences in _all():
        if edge[0] != edge[1]:
            found[edge] = found.get(edge, frozenset()) | frozenset(sentences)
    return found


def _all() -> Iterator[tuple[Edge, Sentences]]:
    yield from STEPS.items()
    for source in (*ROAD, *ENDS):
        for target, sentences in HARMED.items():
            yield (source, target), sentences
        for target, sentences in ORDERED.items():
            if source != "trial":
                yield (source, target), sentences


def ways_on(phase: str) -> list[tuple[str, str]]:
    """Return (where it leads, what must be so) of a phase's own ways on."""
    return [(target, sentence) for (source, target), said in STEPS.items() if source == phase for sentence in said]
