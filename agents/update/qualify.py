"""What qualification and shadow are, seen from the update: questions about a bundle, verdicts with numbers.

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


class ShadowVerdict(Protocol):
    """`outcome` is passed, blocked or held; the last two need a `reason`, a code."""

    @property
    def outcome(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def detail(self) -> str: ...

    @property
    def numbers(self) -> Mapping[str, float]: ...


class Shadow(Protocol):
    async def shadow(self, candidate: Path, active_digest: str, duration_s: float) -> ShadowVerdict:
        """Run a candidate beside the active model; raise OSError if that cannot be done now."""


class HeldError(Exception):
    """There is no evidence for the candidate and none against it; the update waits. `reason` is a code."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
