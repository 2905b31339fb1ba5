"""An embedded PostgreSQL of a test's own, which can be stopped hard and started again on the same socket."""

import os
import subprocess
from pathlib import Path

from control_plane.kit.embedded import EmbeddedPostgres


class RestartablePostgres:
    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedPostgres(folder)
        self.folder = folder.resolve()
        self.url = self._server.url
        binary = (self.folder / "postmaster.opts").read_text().split(" ", 1)[0]
        self._ctl_path = Path(binary).with_name("pg_ctl")

    def crash(self) -> None:
        """Stop without a checkpoint and without a word to anybody, as after a kill."""
        self._ctl("stop", "-m", "immediate")

    def start(self) -> None:
        self._ctl("start", "-l", str(self.folder / "log"), "-o", f"-h '' -k {self.folder}")

    def stop(self) -> None:
        self._server.stop()

    def _ctl(self, *arguments: str) -> None:
        owner = self.folder.owner() if os.getuid() == 0 else None
        command = [str(self._ctl_path), "-D", str(self.folder), "-w", *arguments]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, user=owner)
