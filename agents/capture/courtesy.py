"""What may be sent now: counters and events always, big recordings when nobody pays or sweats for it. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Courtesy:
    """Recordings above `metered_max_bytes` wait while the network is metered, all wait above `hot_c`."""

    metered_max_bytes: int = 1 << 20
    hot_c: float = 85.0


@dataclass(frozen=True)
class Now:
    """None is not known, and holds nothing up: what a device saw must get home. `behind`: older telemetry waits."""

    metered: bool | None = None
    temperature_c: float | None = None
    throttled: bool | None = None
    behind: bool = False


def why_wait(size_bytes: int, now: Now, rules: Courtesy) -> str | None:
    """Return why a recording of this size waits; None if it may go."""
    if now.behind:
        return "telemetry_first"
    if now.throttled or (now.temperature_c is not None and now.temperature_c > rules.hot_c):
        return "hot"
    if now.metered and size_bytes > rules.metered_max_bytes:
        return "metered"
    return None
