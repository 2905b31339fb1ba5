"""Which scenarios people get to see: those that a gate asks them about, or a few flips where a run wants them."""

import re
from collections.abc import Sequence
from itertools import zip_longest

from control_plane.evaluation.domain import Flip, Verdict, questions
from control_plane.evaluation.schemas import MOST_REPLAYED, GateItem

ASKS = "reviews_closed"
MOST_UNASKED = 2  # per direction
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
Scene = tuple[str, str]


def scenes_of(gate: GateItem, *, unasked: bool = False) -> list[Scene]:
    """Choose (suite, scenario): one of every question before a second of any.

    Every suite costs a job per model, some seconds, which is fair where somebody waits to see it. So flips that nobody
    is asked about are chosen only where a run wants them (`unasked`), and of one suite. Scenarios whose id cannot be
    the name of a file have no replay.
    """
    plain = [flip for flip in gate.flips if PLAIN.fullmatch(flip.scenario) and PLAIN.fullmatch(flip.suite)]
    flips = [Flip(**flip.model_dump()) for flip in plain]
    if any(part.rule == ASKS for part in gate.parts):
        asked = [[(flip.suite, flip.scenario) for flip in question.flips] for question in questions(flips)]
        turns = (scene for turn in zip_longest(*asked) for scene in turn if scene is not None)
        return list(dict.fromkeys(turns))[:MOST_REPLAYED]
    return _unasked(flips) if unasked and gate.verdict is not Verdict.PASS else []


def _unasked(flips: Sequence[Flip]) -> list[Scene]:
    ranked = sorted(flips, key=lambda flip: not flip.grave)
    found: dict[Scene, None] = {}
    for broke in (True, False):
        suite = ranked[0].suite if ranked else ""
        same = dict.fromkeys((f.suite, f.scenario) for f in ranked if f.broke == broke and f.suite == suite)
        found |= dict.fromkeys(list(same)[:MOST_UNASKED])
    return list(found)
