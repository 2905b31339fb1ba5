"""A large fleet that is only made up, and some of its devices that really check in: what `fleetloop simulate` does."""

import asyncio
import json
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from control_plane.cli import simulated_fleet
from control_plane.cli.output import console, errors
from control_plane.cli.simulated_fleet import Plan, Voice
from control_plane.cli.simulated_load import Connect, Tally, by_socket, by_tls, drive
from control_plane.fleet import service as fleet
from control_plane.kit.db import DATABASE_ERRORS, Database
from control_plane.kit.embedded import EmbeddedPostgres
from control_plane.kit.errors import Conflict, Invalid

LANES = 64
SPARE_FILES = 100


@dataclass(frozen=True, slots=True)
class Result:
    """What a rehearsal came to."""

    devices: int
    speakers: int
    seconds: float
    check_ins_per_s: float
    windows_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    first_error: str
    api_rss_bytes: int | None


def names(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found or len(found) > 1000 or any(len(name) > 100 for name in found):
        raise Invalid("give 1 to 1000 names with commas between, each of at most 100 characters")
    return found


def database_of(home: Path, url: str | None) -> str:
    """Return where an installation keeps its rows; only on this machine."""
    if url is not None:
        must_be_here(urlsplit(url).hostname, "the database")
        return url
    if not (home / "pg" / "postmaster.pid").exists():
        raise Invalid(f"no PostgreSQL runs in {home}: start 'fleetloop up', or give --database-url")
    return EmbeddedPostgres(home / "pg").url


def must_be_here(host: str | None, what: str) -> None:
    """Refuse to load another machine; no host means a socket of this one.

    Raises:
        Invalid: it is another machine.
    """
    if host in (None, "", "localhost"):
        return
    try:
        here = ip_address(host or "").is_loopback
    except ValueError:
        here = False
    if not here:
        raise Invalid(f"simulated devices stay on this machine: {what} is on {host}", code="not_loopback")


@dataclass(frozen=True, slots=True)
class _Connection:
    """By a unix socket, or by TLS to a port."""

    socket: Path | None
    port: int


def connection(home: Path, server: str | None, socket: Path | None, speakers: int) -> _Connection:
    if socket is not None:
        if not socket.is_socket():
            raise Invalid(f"there is no socket {socket}; the API makes one with --proxied-socket")
        return _Connection(socket, 0)
    if server is None:
        if not (home / "stack.json").exists():
            raise Invalid(f"no control plane runs in {home}: start 'fleetloop up', or give --server or --socket")
        server = str(json.loads((home / "stack.json").read_text())["devices"])
    parts = urlsplit(server)
    must_be_here(parts.hostname, "the server")
    if parts.scheme != "https" or parts.port is None:
        raise Invalid("give the devices' port as https://127.0.0.1:PORT")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES
    if speakers > most:
        raise Invalid(f"by TLS each speaker has a connection: at most {most} here; use fewer, or --socket")
    return _Connection(None, parts.port)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=errors, transient=True)


def made(home: Path, database_url: str, trust_domain: str, plan: Plan, *, must_be_alone: bool) -> list[Voice]:
    with _progress() as progress:
        task = progress.add_task("devices", total=plan.devices)

        async def make() -> list[Voice]:
            if must_be_alone:
                database = Database(database_url, pool_size=1)
                try:
                    async with database.transaction() as session:
                        await fleet.must_be_only_simulated(session)
                finally:
                    await database.close()
            authority = home / "keys" / "device-ca.pem"
            tell: Any = lambda done: progress.update(task, completed=done)  # noqa: E731 - one line for one bar
            return await simulated_fleet.make(database_url, authority, trust_domain, plan, tell)

        return asyncio.run(make())


async def remove(database_url: str) -> int:
    database = Database(database_url, pool_size=1)
    try:
        async with database.transaction() as session:
            return await fleet.remove_simulated(session)
    except DATABASE_ERRORS as error:
        raise Conflict(f"simulated devices that took part in a rollout stay: {str(error)[:200]}") from error
    finally:
        await database.close()


def driven(
    home: Path,
    connection: _Connection,
    voices: list[Voice],
    plan: Plan,
    seconds: float,
    rate: float | None,
    windows: float,
) -> Result:
    proxied = connection.socket is not None
    lanes = min(LANES, len(voices)) if proxied else len(voices)
    shares = simulated_fleet.shares(voices, lanes, windows, proxied=proxied)
    contexts = [] if proxied else simulated_fleet.tls_contexts(voices, home / "keys" / "device-ca.pem")
    connect: Connect = (
        by_socket(connection.socket) if connection.socket is not None else by_tls(connection.port, cycle(contexts))
    )
    with _progress() as progress:
        task = progress.add_task("check-ins", total=None)

        def tick(tally: Tally) -> None:
            progress.update(task, completed=tally.done)

        try:
            per_s = None if rate is None else rate * (1 + windows)
            tally = drive(connect, shares, seconds, rate_per_s=per_s, tick=tick)
        except OSError as error:
            raise Invalid(f"the server cannot be reached: {error}", code="unreachable") from error
    return _result(plan, tally, _rss_bytes(connection))


def _result(plan: Plan, tally: Tally, rss_bytes: int | None) -> Result:
    return Result(
        devices=plan.devices,
        speakers=plan.speakers,
        seconds=round(tally.seconds, 3),
        check_ins_per_s=round(tally.per_s, 1),
        windows_per_s=round(tally.windows / tally.seconds, 1),
        p50_ms=round(tally.quantile_ms(0.5), 2),
        p99_ms=round(tally.quantile_ms(0.99), 2),
        errors=tally.bad + tally.lost,
        first_error=tally.first_bad,
        api_rss_bytes=rss_bytes,
    )


def _rss_bytes(connection: _Connection) -> int | None:
    """Return the memory of the process at the other end, where this one may see it."""
    for pid in _listening(connection):
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            continue
    return None


def _listening(connection: _Connection) -> Iterator[int]:
    kind, where = ("unix", str(connection.socket)) if connection.socket else ("tcp", connection.port)
    try:
        found = psutil.net_connections(kind)
    except psutil.Error:
        return
    for each in found:
        at = each.laddr if kind == "unix" else getattr(each.laddr, "port", None)
        if at == where and each.pid and (kind == "unix" or each.status == psutil.CONN_LISTEN):
            yield each.pid


def tell(result: Result) -> None:
    rss = "unknown" if result.api_rss_bytes is None else f"{result.api_rss_bytes / 1e6:.0f} MB"
    console.print(
        f"{result.devices} devices, {result.speakers} of them spoke for {result.seconds:.1f} s\n"
        f"check-ins  {result.check_ins_per_s:.0f}/s   p50 {result.p50_ms:.1f} ms   p99 {result.p99_ms:.1f} ms\n"
        f"windows    {result.windows_per_s:.0f}/s\nerrors     {result.errors} {result.first_error[:300]}\n"
        f"API memory {rss}"
    )
