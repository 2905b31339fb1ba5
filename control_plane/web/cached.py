"""Figures that cost a scan are read once in a few seconds per process, whoever looks and however often."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

Value = TypeVar("Value")
MOST = 256


class Cache:
    """Remembers values for some seconds; the oldest go first when there are too many."""

    def __init__(self) -> None:
        self._held: OrderedDict[Any, tuple[float, object]] = OrderedDict()

    async def get(self, key: Any, seconds: float, make: Callable[[], Awaitable[Value]]) -> Value:
        held = self._held.get(key)
        now = time.monotonic()
        if held is not None and now - held[0] < seconds:
            return cast("Value", held[1])
        value = await make()
        self._held.pop(key, None)
        self._held[key] = (now, value)
        while len(self._held) > MOST:
            self._held.popitem(last=False)
        return value
