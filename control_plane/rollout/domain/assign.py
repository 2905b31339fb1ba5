"""Which devices a stage reaches: a hash and one threshold per stratum and stage, never a row per device."""

import hashlib
import math
from collections.abc import Iterable, Sequence

BITS = 60  # fits a signed 64-bit column, and 15 hex digits of a digest in SQL
EVERYONE = 1 << BITS
SMALL_STRATUM = 1000


def score(rollout_id: str, device_id: str) -> int:
    """Give the device's fixed place in this rollout: the first 15 hex digits of sha256("ROLLOUT/DEVICE")."""
    digest = hashlib.sha256(f"{rollout_id}/{device_id}".encode()).hexdigest()
    return int(digest[: BITS // 4], 16)


def return_score(rollout_id: str, device_id: str) -> int:
    """Give the device's fixed place on the way back, which says nothing about when it was reached."""
    return score(f"{rollout_id}/back", device_id)


def due_back(rollout_id: str, devices: Iterable[str], share: float) -> list[str]:
    """Return the devices whose turn to go back it is."""
    return [device for device in devices if return_score(rollout_id, device) < int(share * EVERYONE)]


def canaries_in(devices: int, fraction: float) -> int:
    """Say how many devices of a small stratum a stage reaches: at least one, and one is left as control below 1."""
    if fraction >= 1 or devices < 2:
        return devices if fraction >= 1 else 0
    return min(max(round(fraction * devices), 1), devices - 1)


def thresholds(
    rollout_id: str,
    devices: Iterable[str],
    fractions: Sequence[float],
    floors: Sequence[int] = (),
    *,
    large: bool = False,
) -> tuple[int, ...]:
    """Give one threshold per stage for one stratum: a device is in the stage when its score is below it.

    In a small stratum the threshold is the rank that gives the exact count; in a large one (`large`, which needs no
    devices), and for a lone device, the fraction itself. `floors` are thresholds already in force:
    late joiners may not push a device out.
    """
    ranked = [] if large else sorted(score(rollout_id, device) for device in devices)
    raw = [_threshold(ranked, fraction) for fraction in fractions]
    kept = [max(value, floor) for value, floor in zip(raw, [*floors, *[0] * len(raw)], strict=False)]
    return tuple(max(kept[: i + 1]) for i in range(len(kept)))


def _threshold(ranked: Sequence[int], fraction: float) -> int:
    if fraction >= 1:
        return EVERYONE
    if not 2 <= len(ranked) <= SMALL_STRATUM:
        return int(fraction * EVERYONE)
    return ranked[canaries_in(len(ranked), fraction)]


def counted_in(devices: int, fraction: float) -> int:
    """Say how many devices of a stratum a stage holds at least.

    Exact up to `SMALL_STRATUM`. Above, the hash decides for each device alone: the count is binomial, and four standard
    deviations below its mean it is as good as never (3 in 100,000). Whoever waits for more would wait for ever.
    """
    if fraction >= 1 or devices <= SMALL_STRATUM:
        return canaries_in(devices, fraction)
    mean = fraction * devices
    return int(mean - 4 * math.sqrt(mean * (1 - fraction)))


def stage_of(place: int, limits: Sequence[int]) -> int | None:
    """Give the first stage whose threshold lies above this score; None: control to the end."""
    return next((stage for stage, limit in enumerate(limits) if place < limit), None)


def assigned_stage(
    rollout_id: str, device_id: str, stratum_devices: Iterable[str], fractions: Sequence[float]
) -> int | None:
    return stage_of(score(rollout_id, device_id), thresholds(rollout_id, stratum_devices, fractions))
