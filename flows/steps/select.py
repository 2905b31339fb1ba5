"""Which recordings a dataset is made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording as curation sees it; `kind` is the event's kind, or the trigger where no event belongs to it."""

    sha256: str
    size_bytes: int
    trigger: str
    event_id: str | None
    kind: str
    group: str


def select_clips(
    recorded: Iterable[Recorded], incident_kinds: Sequence[str], *, most_incidents: int, most_samples: int
) -> list[Recorded]:
    """Take incidents first, in the order they were stored, and then some of the random samples; each group's once."""
    incidents: dict[str, Recorded] = {}
    samples: dict[str, Recorded] = {}
    for item in recorded:
        target = incidents if item.kind in incident_kinds else samples
        target.setdefault(item.event_id or item.sha256, item)
    return [*list(incidents.values())[:most_incidents], *list(samples.values())[:most_samples]]


def group_of(details: Mapping[str, object], event_id: str | None, sha256: str) -> str:
    """Name what must not stand on both sides of a split: the workload's own word for it, else the event itself."""
    return str(details.get("group") or event_id or sha256)
