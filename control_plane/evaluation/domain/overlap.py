"""Whether a model was trained on what it is tested with: by name of the incident, and by nearly the same parameters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agents.protocol.v1 import digest_of
from control_plane.evaluation.domain.values import Overlap, PlannedScenario

LEFT_OUT: Final = frozenset({"seed", "noise"})
ROUNDED: Final = 2
"""Significant digits of a fingerprint: 1.23 and 1.18 m/s are the same test, 1.2 and 1.3 are not."""


@dataclass(frozen=True, slots=True)
class Trained:
    """One clip that a candidate or one of its ancestors was trained on."""

    recording: str
    event: str
    group: str
    fingerprint: str = ""


def fingerprint(params: Mapping[str, Any]) -> str:
    """Digest a scenario's parameters, rounded, without seeds and noise; "" when there are none."""
    kept = _rounded(params)
    return digest_of(kept) if kept else ""


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items() if not _varies(str(key))}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float) or value == 0 or not math.isfinite(value):
        return value
    return float(f"{value:.{ROUNDED}g}")


def _varies(key: str) -> bool:
    return any(word in key.lower() for word in LEFT_OUT)


def overlaps(suite: str, scenarios: Sequence[PlannedScenario], trained: Sequence[Trained]) -> tuple[Overlap, ...]:
    """Name every scenario that training has seen."""
    names = {name: clip for clip in trained for name in (clip.event, clip.group, clip.recording) if name}
    near = {clip.fingerprint for clip in trained if clip.fingerprint}
    found = []
    for planned in scenarios:
        same = next((name for name in (planned.source, planned.cluster) if name and name in names), None)
        if same is not None:
            found.append(Overlap(suite, planned.scenario, f"trained on {same}"))
        elif planned.fingerprint and planned.fingerprint in near:
            found.append(Overlap(suite, planned.scenario, "nearly the parameters of a clip it was trained on"))
    return tuple(found)
