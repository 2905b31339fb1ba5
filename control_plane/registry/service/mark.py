"""How far this installation has ever signed, in a file beside its keys, so that a restored database is noticed.

`written` is the timestamp version that was about to be committed, `confirmed` one that surely was. A database below
`confirmed` is an old backup. A database below `written` alone may be that or a publish that crashed: then every
version skips ahead, so that no number is ever signed twice for different bytes.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from agents.protocol.v1 import strict_json
from control_plane.kit.errors import Refused
from control_plane.kit.signing import write_durably

NAME = "high-water.json"
MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Mark:
    confirmed: int = 0
    written: int = 0

    def gap(self, version: int) -> int:
        """Return how many versions to skip above one in the database.

        Raises:
            Refused: the database is older than what was published from here.
        """
        if version < self.confirmed:
            raise Refused(
                f"the database is at TUF timestamp {version}, but {self.confirmed} was published: this is a restored "
                "backup, and revocations since then are lost to it. When you know what to publish again, run: "
                "fleetloop keys resume-after-restore",
                code="database_restored",
            )
        return max(0, self.written - version)


def read_mark(folder: Path) -> Mark:
    path = folder / NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Mark()
    try:
        plain = strict_json(data, MAX_BYTES)
        return Mark(int(plain["confirmed"]), int(plain["written"]))
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path} cannot be read, so nothing is signed: {error}", code="high_water_broken") from error


def write_mark(folder: Path, mark: Mark) -> None:
    write_durably(folder / NAME, json.dumps(asdict(mark)).encode(), 0o600)
