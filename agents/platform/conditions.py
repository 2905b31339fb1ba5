"""What the machine is like right now, for whoever decides whether something may happen on it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conditions:
    """None means: this machine does not tell. It never means zero, no, or fine.

    `temperature_c` is the hottest zone. `power_scope` says what `power_w` covers (see `energy`).
    """

    temperature_c: float | None = None
    battery_percent: float | None = None
    on_external_power: bool | None = None
    load_1m: float | None = None
    load_per_core: float | None = None
    memory_available_mb: float | None = None
    disk_free_mb: float | None = None
    gpu_load_percent: float | None = None
    network_metered: bool | None = None
    throttled: bool | None = None
    power_w: float | None = None
    power_scope: str | None = None
