"""Two neighbouring exposure windows as one, for the days when the spool is full. Pure."""

from datetime import datetime
from typing import Any, Final

_COUNT_MAX: Final = 1_000_000_000
_AMOUNT_MAX: Final = 1e12
_KINDS_MAX: Final = 32


def merge_windows(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any] | None:
    """Return one window that says what two of the same model said together; None if no window can hold it.

    Sums stay exact. The median latency becomes the mean weighted by decisions, and p99 the larger of both: it may
    overstate, never understate. Energy and throttling are known only if both knew them; heat is the hottest known.
    """
    counts = _added_counts(first["counts"], second["counts"])
    heat = {
        "temperature_max_c": _highest(first.get("temperature_max_c"), second.get("temperature_max_c")),
        "throttled_s": _added(first.get("throttled_s"), second.get("throttled_s")),
    }
    merged = {
        **first,
        "started_at": min(first["started_at"], second["started_at"], key=_instant),
        "ended_at": max(first["ended_at"], second["ended_at"], key=_instant),
        "distance_m": first["distance_m"] + second["distance_m"],
        "duration_s": first["duration_s"] + second["duration_s"],
        "decisions": first["decisions"] + second["decisions"],
        "energy_j": _added(first["energy_j"], second["energy_j"]),
        "counts": counts,
        "latency_p50_ms": _weighted(first, second),
        "latency_p99_ms": max(first["latency_p99_ms"], second["latency_p99_ms"]),
        **{name: value for name, value in heat.items() if value is not None or name in first},
    }
    return merged if first["content_digest"] == second["content_digest"] and _fits(merged) else None


def _instant(text: str) -> datetime:
    # Python 3.10 does not read the Z that pydantic writes.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _added_counts(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return {kind: first.get(kind, 0) + second.get(kind, 0) for kind in sorted({*first, *second})}


def _added(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


def _highest(first: float | None, second: float | None) -> float | None:
    return max((each for each in (first, second) if each is not None), default=None)


def _weighted(first: dict[str, Any], second: dict[str, Any]) -> float:
    weights = (first["decisions"], second["decisions"])
    if not sum(weights):
        return max(float(first["latency_p50_ms"]), float(second["latency_p50_ms"]))
    total = first["latency_p50_ms"] * weights[0] + second["latency_p50_ms"] * weights[1]
    return float(total / sum(weights))


def _fits(window: dict[str, Any]) -> bool:
    numbers = [window["decisions"], *window["counts"].values()]
    amounts = [window["distance_m"], window["duration_s"], window["energy_j"] or 0.0]
    return (
        len(window["counts"]) <= _KINDS_MAX
        and all(number <= _COUNT_MAX for number in numbers)
        and all(amount <= _AMOUNT_MAX for amount in amounts)
    )
