"""Power cuts and failing disks at every write of a process: counted, and struck at one of them.

A point lies before each operation that changes the disk below one folder: Python's own audit events for names and
modes, wrapped `os` calls for bytes and durability, a connection class for SQLite's statements and commits. A cut is
SIGKILL to the process itself, in the middle of the bytes where there are any. To be armed in a process of its own.
"""

import errno
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Which argument of an audit event is the name that changes, and which the directory it is relative to.
_EVENTS: Final = {
    "os.rename": (1, 3),
    "os.link": (1, 3),
    "os.symlink": (1, 2),
    "os.remove": (0, 1),
    "os.rmdir": (0, 1),
    "os.mkdir": (0, 2),
    "os.chmod": (0, 2),
    "os.truncate": (0, None),
}
_FREES: Final = {"os.remove", "os.rmdir", "os.chmod", "os.truncate"}
FAULTS: Final = {"ENOSPC": errno.ENOSPC, "EROFS": errno.EROFS}


@dataclass
class Strike:
    """At point `at`: KILL, or a fault that lasts for `lasting` refused operations."""

    kind: str = "none"
    at: int = -1
    lasting: int = 12
    log: Path | None = None


@dataclass
class Points:
    root: str
    strike: Strike
    count: int = 0
    refused: int = 0
    struck: str = ""
    trail: list[tuple[str, str]] = field(default_factory=list)

    def arm(self) -> None:
        """Watch this process from now on; there is no way back."""
        sys.addaudithook(self._heard)
        for name in ("write", "pwrite", "fsync"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        real, points = sqlite3.connect, self

        class Watched(sqlite3.Connection):
            def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
                if not sql.startswith("SELECT"):
                    points.sql(sql.split(maxsplit=1)[0])
                return super().execute(sql, *rest)

            def commit(self) -> None:
                points.sql("COMMIT")
                super().commit()

            def __exit__(self, *failure: Any) -> Any:  # noqa: PYI036 - handed on as it came
                if failure[0] is None:
                    self.commit()
                    points.sql("COMMITTED", after=True)
                return super().__exit__(*failure)

        sqlite3.connect = lambda *args, **named: real(*args, factory=Watched, **named)  # type: ignore[assignment]  # a wrapper

    def sql(self, word: str, *, after: bool = False) -> None:
        if self._reached(f"sqlite {word}", "", frees=after):
            raise sqlite3.OperationalError("database or disk is full")

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            where = self._inside(path, None) if flags & _WRITES else None
        elif event in _EVENTS:
            name, folder = _EVENTS[event]
            where = self._inside(args[name], None if folder is None else args[folder])
        else:
            return
        if where is not None and self._reached(event, where, frees=event in _FREES):
            raise OSError(FAULTS[self.strike.kind], os.strerror(FAULTS[self.strike.kind]))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(fd: int, *args: Any) -> Any:
            where = self._inside(fd, None)
            if where is None:
                return real(fd, *args)
            torn = None if name == "fsync" else lambda: real(fd, args[0][: len(args[0]) // 2], *args[1:])
            if self._reached(f"os.{name}", where, torn=torn):
                raise OSError(FAULTS[self.strike.kind], os.strerror(FAULTS[self.strike.kind]))
            return real(fd, *args)

        return call

    def _reached(self, name: str, where: str, *, frees: bool = False, torn: Callable[[], Any] | None = None) -> bool:
        """Count a point; return whether the operation must fail."""
        at, self.count = self.count, self.count + 1
        self.trail.append((name, where.removeprefix(f"{self.root}/")))
        if self.strike.kind == "none" or at < self.strike.at:
            return False
        if self.strike.kind == "KILL":
            if torn is not None:
                torn()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.refused >= self.strike.lasting or (frees and self.strike.kind == "ENOSPC"):
            return False
        self.struck = self.struck or name
        self.refused += 1
        return True

    def _inside(self, name: Any, folder: Any) -> str | None:
        """Return the path if it is below the folder that is watched."""
        if isinstance(name, int):
            path = _of_descriptor(name)
        else:
            path = os.fsdecode(name)
            if isinstance(folder, int) and folder >= 0 and not path.startswith("/"):
                path = f"{_of_descriptor(folder)}/{path}"
        return path if path.startswith(self.root) else None


def _of_descriptor(fd: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return ""
