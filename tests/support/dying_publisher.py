"""Publishes in a process that is killed (SIGKILL) at the n-th thing it does to the database or the disk.

Run: `python -m tests.support.dying_publisher DATABASE_URL HOME`, then lines `N PATH TEXT` on standard input. For each
line a forked child publishes TEXT as PATH, and dies before its N-th effect; the answer is `killed` or `done`.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event

from control_plane.kit.settings import Settings
from control_plane.main import open_context
from tests.support.tuf import publish


class Reaper:
    def __init__(self, at: int) -> None:
        self.left = at

    def effect(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str) -> None:
        """Count a call before it happens."""
        real = getattr(owner, name)

        def counted(*values: Any, **named: Any) -> Any:
            self.effect()
            return real(*values, **named)

        setattr(owner, name, counted)


async def work(url: str, home: Path, path: str, text: str, at: int) -> None:
    context = open_context(Settings(home=home, database_url=url), pool_size=1)
    await context.objects.start()
    reaper = Reaper(at)
    for name in ("before_cursor_execute", "commit"):
        event.listen(context.database.engine.sync_engine, name, reaper.effect)
    for owner, name in ((os, "fsync"), (os, "replace"), (os, "link"), (Path, "replace")):
        reaper.around(owner, name)
    await publish(context, {path: text.encode()})
    reaper.effect()  # committed, but nobody has been told
    await context.database.close()


def main() -> None:
    url, home = sys.argv[1], Path(sys.argv[2])
    for line in sys.stdin:
        number, path, text = line.split()
        child = os.fork()
        if child == 0:
            asyncio.run(work(url, home, path, text, int(number)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else f"done {status}", flush=True)


if __name__ == "__main__":
    main()
