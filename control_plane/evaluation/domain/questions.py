"""What people are asked about a candidate's flips: few questions, the gravest first, one per cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.evaluation.domain.values import Flip

MOST_ALONE = 5
"""How many clusters per direction get a question of their own; the rest shares one."""
REST = "others"


@dataclass(frozen=True, slots=True)
class Question:
    """`subject` names it within one candidate; `needed` people must say yes, two where it is of the gravest kind."""

    subject: str
    text: str
    flips: tuple[Flip, ...]
    needed: int


def questions(found: Sequence[Flip]) -> tuple[Question, ...]:
    """Group flips by direction and cluster, the same however often it is asked with the same flips."""
    return tuple(question for broke in (True, False) for question in _direction(found, broke=broke))


def _direction(found: Sequence[Flip], *, broke: bool) -> list[Question]:
    clusters: dict[tuple[str, str], list[Flip]] = {}
    for flip in found:
        if flip.broke == broke:
            clusters.setdefault((flip.suite, flip.cluster), []).append(flip)
    ranked = sorted(clusters.items(), key=lambda item: (not _grave(item[1]), -len(item[1]), item[0]))
    word = "broke" if broke else "mended"
    asked = [_question(f"{word}/{suite}/{cluster}", flips) for (suite, cluster), flips in ranked[:MOST_ALONE]]
    rest = [flip for _, flips in ranked[MOST_ALONE:] for flip in flips]
    return [*asked, _question(f"{word}/{REST}", rest)] if rest else asked


def _question(subject: str, flips: Sequence[Flip]) -> Question:
    names = ", ".join(f.scenario for f in flips[:3]) + (f" and {len(flips) - 3} more" if len(flips) > 3 else "")
    kinds = ", ".join(sorted({flip.metric for flip in flips}))
    what = "newly fails in" if flips[0].broke else "no longer fails in"
    text = f"The candidate {what} {len(flips)} scenarios ({kinds}): {names}. Is that what you want of it?"
    return Question(subject, text, tuple(flips), 2 if _grave(flips) and flips[0].broke else 1)


def _grave(flips: Sequence[Flip]) -> bool:
    return any(flip.grave for flip in flips)
