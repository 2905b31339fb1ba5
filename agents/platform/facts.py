"""All facts of this machine, read at most twice a minute: they go with every check-in."""

import time
from pathlib import Path
from typing import Final

from agents.platform import generic, jetson
from agents.platform.reading import Facts

_PERIOD_S: Final = 30.0


class PlatformFacts:
    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._read_at_s = float("-inf")
        self._facts: Facts = {}

    def now(self) -> Facts:
        if time.monotonic() - self._read_at_s > _PERIOD_S:
            self._facts = {**generic.read(self._state_dir), **jetson.read()}
            self._read_at_s = time.monotonic()
        return self._facts
