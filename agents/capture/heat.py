"""How hot the machine was while a window lasted: the agent reads it, for robot applications have no sensors at hand.

What was read is kept in memory and for two hours: a device that was cut off for longer sends its older windows without
heat, and so does one whose agent was not running. None always means: not known.
"""

from collections import deque
from datetime import datetime
from typing import Final, NamedTuple

from agents.protocol.v1 import ExposureWindow

PERIOD_S: Final = 10.0
_KEPT_MOST: Final = 720
_COLDEST_C, _HOTTEST_C = -100.0, 300.0
_HELD_S: Final = 2 * PERIOD_S
"""How long a reading speaks for: when the next one is late, nobody knows what was in between."""


class Reading(NamedTuple):
    at_s: float
    temperature_c: float | None
    throttled: bool | None


class HeatLog:
    """Readings in the order of the wall clock, which windows tell their time by; a clock set back starts it anew."""

    def __init__(self) -> None:
        self._readings: deque[Reading] = deque(maxlen=_KEPT_MOST)

    def note(self, at: datetime, temperature_c: float | None, throttled: bool | None) -> None:
        """Keep one reading; a machine that tells nothing costs nothing, and what no sensor can mean is not believed."""
        if temperature_c is not None and not _COLDEST_C <= temperature_c <= _HOTTEST_C:
            temperature_c = None
        if temperature_c is None and throttled is None:
            return
        at_s = at.timestamp()
        if self._readings and self._readings[-1].at_s > at_s:
            self._readings.clear()
        self._readings.append(Reading(at_s, temperature_c, throttled))

    def added_to(self, window: ExposureWindow) -> ExposureWindow:
        """Return a window with its heat, unless the application said it itself or nothing is known of that time."""
        if not self._readings or window.temperature_max_c is not None or window.throttled_s is not None:
            return window
        temperature_c, throttled_s = self.between(window.started_at, window.ended_at)
        return window.model_copy(update={"temperature_max_c": temperature_c, "throttled_s": throttled_s})

    def between(self, start: datetime, stop: datetime) -> tuple[float | None, float | None]:
        """Return the hottest reading that speaks for a part of this time, and for how much of it throttling was on."""
        start_s, stop_s = start.timestamp(), stop.timestamp()
        degrees: list[float] = []
        throttled_s: float | None = None
        for reading, until_s in self._spans():
            shared_s = min(until_s, stop_s) - max(reading.at_s, start_s)
            if shared_s < 0 or (shared_s == 0 and start_s < stop_s):
                continue
            if reading.temperature_c is not None:
                degrees.append(reading.temperature_c)
            if reading.throttled is not None:
                throttled_s = (throttled_s or 0.0) + shared_s * reading.throttled
        return max(degrees, default=None), throttled_s

    def _spans(self) -> list[tuple[Reading, float]]:
        """Return each reading and until when it speaks."""
        readings = list(self._readings)
        ends = [*(each.at_s for each in readings[1:]), float("inf")][: len(readings)]
        return [(each, min(end, each.at_s + _HELD_S)) for each, end in zip(readings, ends, strict=True)]
