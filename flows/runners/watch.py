"""What a wrapper sees of the command it runs, and what it has been told about it."""

import json
import math
import threading
from dataclasses import dataclass, field

TAIL_CHARS = 2000
ECHO_CHARS = 8 << 20
"""How much of what a command prints goes into its cluster's log: that lies on a disk which all share."""


@dataclass
class Watch:
    """What is seen of a running command; `evicted` and `cancelled` say why it must end."""

    progress: float = 0.0
    note: str = ""
    tail: str = ""
    lost: bool = False
    evicted: str = ""
    cancelled: str = ""
    echo_left: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def must_end(self) -> bool:
        return bool(self.lost or self.evicted or self.cancelled)

    def hear(self, line: str) -> None:
        """Take in a line that the command printed: how far it is, or what may tell why it failed."""
        if self.echo_left > 0:
            self.echo_left -= len(line) + 1
            more = "" if self.echo_left > 0 else "\n(more is not kept)"
            print(line + more, flush=True)  # noqa: T201 - into the cluster's log of this order
        said = progress_of(line)
        if said is None:
            self.tail = f"{self.tail}\n{line}"[-TAIL_CHARS:]
        else:
            self.progress, self.note = said


def progress_of(line: str) -> tuple[float, str] | None:
    """Read `{"progress": 0.5, "note": "half"}`; None for any other line: commands print what they like."""
    try:
        said = json.loads(line)
        progress, note = float(said["progress"]), str(said.get("note", ""))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    if math.isnan(progress):
        return None
    return min(max(progress, 0.0), 1.0), storable(note)[:200]


def storable(text: str) -> str:
    """Replace what PostgreSQL and UTF-8 cannot hold: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
