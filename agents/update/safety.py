"""Whether the device may switch now, and what it waits for in words that do not change with every tenth of a degree."""

import time
from collections.abc import Callable
from typing import Final

from agents.protocol.v1.safe_state import MAX_CHARS, MAX_JOINED_CHARS, Circumstances, SafeStateError, Wait, parse

# What is missing goes into the journal; new figures of the same lack are worth a write a minute.
_FIGURES_S: Final = 60.0


class Safety:
    """Asks the device's own rule and the order's; both must hold. `circumstances` tells how things are now."""

    def __init__(
        self,
        circumstances: Callable[[], Circumstances] = Circumstances,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._circumstances, self._clock = circumstances, clock
        self._said: tuple[Wait, ...] = ()
        self._said_at_s = float("-inf")

    def waits_for(self, own: str, ordered: str | None) -> tuple[str, ...]:
        """Return what is missing; nothing if neither rule asks for anything."""
        asked = ((own, MAX_CHARS), (ordered or "", MAX_JOINED_CHARS))
        rules = [(text, limit) for text, limit in asked if text.strip()]
        return self._steady(self._asked(rules)) if rules else ()

    def _asked(self, rules: list[tuple[str, int]]) -> tuple[Wait, ...]:
        seen = self._circumstances()
        waits: dict[str, Wait] = {}
        for text, limit in rules:
            try:
                found = parse(text, limit).ask(seen).waits
            except SafeStateError as error:
                # A rule from a newer server: what cannot be read does not hold.
                found = (Wait(text, f"the rule cannot be read: {error}"),)
            waits.update({one.term: one for one in found})
        if waits and seen.safe_to_switch is False:
            waits.setdefault("safe_to_switch", Wait("safe_to_switch", "the application says not now"))
        return tuple(waits.values())

    def _steady(self, waits: tuple[Wait, ...]) -> tuple[str, ...]:
        same = [one.term for one in waits] == [one.term for one in self._said]
        if not same or self._clock() - self._said_at_s > _FIGURES_S:
            self._said, self._said_at_s = waits, self._clock()
        return tuple(one.words for one in self._said)
