"""What judging versions took: which jobs simulated how many episodes of which version, for whose gate."""

from collections.abc import Sequence

from control_plane.evaluation import store
from control_plane.evaluation.domain import Effort
from control_plane.kit.db import Session


async def efforts(session: Session, contents: Sequence[str]) -> list[Effort]:
    """Return a version's own simulations (`content_digest`), and those of others that its gates weighed (`candidate`).

    A simulation that several gates weighed comes once for each of their candidates.
    """
    own = [
        Effort(candidate=line["content_digest"], used=line["episodes"], **line)
        for line in await store.simulated(session, contents)
    ]
    return own + [Effort(**line) for line in await store.weighed(session, contents) if line["used"]]
