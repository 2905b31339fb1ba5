"""What judging versions took: which jobs simulated how many episodes of which version, for whose gate."""

from collections import defaultdict
from collections.abc import Sequence

from control_plane.evaluation import store
from control_plane.evaluation.domain import Effort
from control_plane.kit.db import Row, Session


async def efforts(session: Session, contents: Sequence[str]) -> list[Effort]:
    """Return a version's own simulations (`content_digest`), and those of others that its gates weighed (`candidate`).

    A simulation that several gates weighed comes once for each of their candidates.
    """
    weighed = [(line["candidate"], line["evaluation_id"]) for line in await store.weighed(session, contents)]
    lines = await store.simulated(session, contents, sorted({evaluation for _, evaluation in weighed}))
    asked, by_evaluation = set(contents), defaultdict[str, list[Row]](list)
    for line in lines:
        by_evaluation[line["evaluation_id"]].append(line)
    own = [Effort(candidate=line["content_digest"], **line) for line in lines if line["content_digest"] in asked]
    others = [
        Effort(candidate=candidate, **line)
        for candidate, evaluation in weighed
        for line in by_evaluation[evaluation]
        if line["content_digest"] != candidate
    ]
    return own + others
