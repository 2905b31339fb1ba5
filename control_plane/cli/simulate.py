"""`fleetloop simulate`: a large fleet that is only made up, and some of its devices that really check in."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from control_plane.cli.answers import Answer, Raw, Report
from control_plane.cli.command import DryRun
from control_plane.cli.home import default_home
from control_plane.cli.later import Later
from control_plane.cli.output import say

if TYPE_CHECKING:
    from control_plane.cli import rehearsal, simulated_fleet
else:
    rehearsal = Later("control_plane.cli.rehearsal")
    simulated_fleet = Later("control_plane.cli.simulated_fleet")


def simulate(
    devices: Annotated[int, typer.Option(min=1, max=2_000_000, help="how many devices there are to be")] = 1000,
    speakers: Annotated[int, typer.Option(min=1, max=50_000, help="how many of them check in")] = 100,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="for how long")] = 10.0,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="check-ins a second; as many as come back if unset")
    ] = None,
    windows: Annotated[float, typer.Option(min=0, max=1, help="telemetry windows for each check-in")] = 0.0,
    sites: Annotated[str, typer.Option(help="sites of the devices, with commas between")] = "simulated-1,simulated-2",
    classes: Annotated[str, typer.Option(help="device classes of theirs, with commas between")] = "simulated",
    home: Annotated[Path | None, typer.Option(help="folder of the installation, where 'fleetloop up' runs")] = None,
    server: Annotated[
        str | None, typer.Option(help="the devices' port, https://127.0.0.1:PORT; what HOME says if unset")
    ] = None,
    socket: Annotated[Path | None, typer.Option(help="come as through a proxy, by this unix socket of the API")] = None,
    database_url: Annotated[str | None, typer.Option(envvar="FLEETLOOP_DATABASE_URL", help="its PostgreSQL")] = None,
    trust_domain: Annotated[str, typer.Option(help="FLEETLOOP_TRUST_DOMAIN of the installation")] = "fleetloop",
    yes: Annotated[bool, typer.Option("--yes", help="also beside devices that are real")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="take the simulated devices out again, not their telemetry")
    ] = False,
    dry_run: DryRun = False,
) -> Answer:
    """Rehearse a large fleet on this machine: make devices up and let some of them check in.

    For example: fleetloop simulate --devices 1000000 --speakers 500 --seconds 30; later fleetloop simulate --remove
    """
    where = (home or default_home()).resolve()
    if dry_run:
        return _would(where, devices=devices, speakers=min(speakers, devices), seconds=seconds, remove=remove)
    database = rehearsal.database_of(where, database_url)
    if remove:
        removed = asyncio.run(rehearsal.remove(database))
        return Report([Raw({"removed": removed})], lambda: say(f"{removed} simulated devices are gone"))
    plan = simulated_fleet.Plan(devices, min(speakers, devices), rehearsal.names(classes), rehearsal.names(sites))
    connection = rehearsal.connection(where, server, socket, plan.speakers)
    voices = rehearsal.made(where, database, trust_domain, plan, must_be_alone=not yes)
    result = rehearsal.driven(where, connection, voices, plan, seconds, rate, windows)
    return Report([Raw(asdict(result))], lambda: rehearsal.tell(result), status=1 if result.errors else 0)


def _would(home: Path, **plan: Any) -> Report:
    what = "take the simulated devices out of" if plan["remove"] else f"put {plan['devices']} devices into"
    return Report([Raw({"home": str(home)} | plan)], lambda: say(f"would {what} the database of {home}"))
