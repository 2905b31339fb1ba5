"""Where everything lies in a state directory; the one place that knows these names.

It creates no files and reads only the `active` link. The agent's secrets are under `agent/`, which the application
need not be able to read.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BUNDLE: Final = re.compile(r"^slots/([ab])/([1-9][0-9]{0,15})\.([0-9a-f]{64})$")


@dataclass(frozen=True)
class ActiveModel:
    """The bundle to run. `path` never changes its content: another release has another path."""

    path: Path
    content_digest: str
    release_counter: int


@dataclass(frozen=True)
class StateDir:
    root: Path

    @property
    def device_json(self) -> Path:
        return self.root / "device.json"

    @property
    def enrolment_json(self) -> Path:
        return self.root / "enrolment.json"

    @property
    def spool(self) -> Path:
        return self.root / "spool.db"

    @property
    def signals(self) -> Path:
        return self.root / "signals"

    @property
    def outbox(self) -> Path:
        return self.root / "outbox"

    @property
    def active(self) -> Path:
        return self.root / "active"

    @property
    def slots(self) -> Path:
        return self.root / "slots"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def private(self) -> Path:
        return self.root / "agent"

    def bundle_dir(self, slot: str, counter: int, content_digest: str) -> Path:
        return self.slots / slot / f"{counter}.{content_digest}"

    def read_active(self) -> tuple[str, ActiveModel] | None:
        """Return the slot's letter and the active model; None while the device has no model."""
        try:
            target = str(self.active.readlink())
        except OSError:
            return None
        found = _BUNDLE.match(target)
        if found is None:
            return None
        return found[1], ActiveModel(self.root / target, found[3], int(found[2]))
