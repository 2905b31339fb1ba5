"""How long to wait: exponential with full jitter, never less than the server asked for."""

import random
from typing import Final

LONGEST_WAIT_S: Final = 3600.0


class Backoff:
    def __init__(self, first_s: float = 1.0, most_s: float = 60.0, source: random.Random | None = None) -> None:
        self._first_s, self._most_s = first_s, most_s
        # Jitter only spreads devices over time; nobody gains by guessing it.
        self._source = source or random.SystemRandom()
        self.failures = 0

    def succeeded(self) -> None:
        self.failures = 0

    def failed(self, retry_after_s: float | None = None) -> float:
        """Return the seconds to wait after one more failure."""
        ceiling = min(self._most_s, self._first_s * 2.0 ** min(self.failures, 16))
        self.failures += 1
        # A tenth of the ceiling at least: full jitter alone may return zero many times.
        wait = self._source.uniform(ceiling / 10, ceiling)
        return wait + bounded_wait(retry_after_s or 0.0, 0.0)

    def spread(self, asked_s: float, least_s: float = 0.2) -> float:
        """Return the server's period with a tenth of jitter, kept within sane bounds."""
        return bounded_wait(asked_s, least_s) * self._source.uniform(0.95, 1.05)


def bounded_wait(asked_s: float, least_s: float) -> float:
    return min(max(asked_s, least_s), LONGEST_WAIT_S)
