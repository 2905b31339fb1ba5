"""A PostgreSQL server from the system's packages, for the control plane and for Prefect."""

import os
import subprocess
from pathlib import Path

from control_plane.cli.processes import Program, Supervisor, free_port
from tests.clusters.processes import until

OWNER = "postgres"  # the server refuses to be root
USER = "fleetloop"


def binaries() -> Path | None:
    """Return the folder of the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


class Postgres:
    """`url` and `prefect_url` name two databases of one server."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._programs = binaries() or Path()
        self.url = f"postgresql://{USER}@127.0.0.1:{self._port}/fleetloop"
        self.prefect_url = f"postgresql+asyncpg://{USER}@127.0.0.1:{self._port}/prefect"

    def start(self, supervisor: Supervisor) -> None:
        self._folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            for folder in self._folder.parents[:3]:
                folder.chmod(folder.stat().st_mode | 0o011)
            subprocess.run(["chown", OWNER, self._folder], check=True)
        self._run("initdb", "-D", str(self._folder), "-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C.UTF-8")
        server = [
            *self._as_owner(), str(self._programs / "postgres"), "-D", str(self._folder), "-k", str(self._folder),
            "-p", str(self._port), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300",
        ]  # fmt: skip
        supervisor.start(Program("postgres", server, {}))
        until(self.is_ready, 30, "PostgreSQL answers")
        for name in ("fleetloop", "prefect"):
            self._run("createdb", *self._where(), name)

    def is_ready(self) -> bool:
        return self._call("pg_isready", *self._where(), "-d", "template1").returncode == 0

    def drop(self) -> None:
        """Delete the control plane's database, whoever uses it."""
        self._run("dropdb", "--force", *self._where(), "fleetloop")
        self._run("createdb", *self._where(), "fleetloop")

    def _where(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self._port), "-U", USER]

    def _as_owner(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        return ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups"]

    def _run(self, program: str, *arguments: str) -> None:
        done = self._call(program, *arguments)
        assert done.returncode == 0, f"{program}: {done.stderr[-1000:]}"

    def _call(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*self._as_owner(), str(self._programs / program), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")
