"""What qualification is, seen from the update: a question about a bundle, a verdict with numbers.

How a model is run is the business of `agents.inference`; the two meet through this port.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Verdict(Protocol):
    """`ok` False needs a `reason`; `numbers` go into the deployment report."""

    @property
    def ok(self) -> bool: ...

    @property
    def reason(self) -> str: ...

    @property
    def numbers(self) -> Mapping[str, float]: ...


class Qualifier(Protocol):
    async def qualify(self, bundle: Path) -> Verdict:
        """Return the verdict; raise OSError if it cannot be found out now."""
