"""`fleetloop devices`, `device-classes` and `baselines`: where devices are, what they run, and why."""

from typing import Annotated

import typer

from control_plane.cli import completion
from control_plane.cli.answers import Answer, Change, Items, One
from control_plane.cli.command import Noun, Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.cli.nouns.rollouts import explained
from control_plane.client import Calls
from control_plane.fleet.schemas import EnrolmentTokenCreate

devices = typer.Typer(cls=Noun, help="Devices: where they are, what they run, and why.")
classes = typer.Typer(cls=Noun, help="Device classes: kinds of hardware.")
baselines = typer.Typer(cls=Noun, help="Baselines: what each device class runs by default.")
verb = Verb(devices)
Id = Annotated[str, typer.Argument(help="the device's id", autocompletion=completion.devices)]


@verb("list", watched=True)
def list_devices(
    site: Annotated[str | None, typer.Option(help="only this site")] = None,
    device_class: Annotated[
        str | None, typer.Option(help="only this class", autocompletion=completion.device_classes)
    ] = None,
    running: Annotated[str | None, typer.Option(help="only those that run this content or release")] = None,
) -> Answer:
    """List devices: where they are, what they run, when they were last seen.

    For example: fleetloop devices list --site hall -o wide
    """
    found = client("viewer").list_devices(site=site, device_class=device_class, running=running)
    return Items(found, views.DEVICE)


def get_device(device_id: Id) -> Answer:
    """Show one device.

    For example: fleetloop devices get dev_01 --watch
    """
    return One(client("viewer").get_device(device_id), views.DEVICE)


verb("get", watched=True)(get_device)
verb("show", watched=True, hidden=True)(get_device)


@verb("explain", watched=True)
def explain_device(device_id: Id) -> Answer:
    """Say in words why a device runs what it runs, and what it waits for.

    For example: fleetloop devices explain dev_01
    """
    return explained(client("viewer").explain_device(device_id))


@verb("summary", watched=True)
def summary() -> Answer:
    """Count devices by class, site and what they run.

    For example: fleetloop devices summary
    """
    return Items(client("viewer").fleet_summary(), views.FLEET)


def enrolment_token(
    device_class: Annotated[
        str, typer.Argument(help="which class it will be of", autocompletion=completion.device_classes)
    ],
    site: Annotated[str | None, typer.Option(help="only for a device at this site")] = None,
    serial: Annotated[str | None, typer.Option(help="only for the device with this serial")] = None,
    ttl_s: Annotated[float, typer.Option(min=1, max=86400, help="seconds until it expires")] = 3600,
) -> Answer:
    """Make a single-use token with which one device may enrol.

    For example: fleetloop devices enrolment-token sim-amr --site hall
    """
    body = EnrolmentTokenCreate(device_class=device_class, site=site, serial=serial, ttl_s=ttl_s)
    return Change("operator", [Calls.create_enrolment_token.ask(body)], views.ENROLMENT)


verb("enrolment-token", changes=True)(enrolment_token)


@Verb(classes)("list", watched=True)
def list_classes() -> Answer:
    """List device classes and what must hold before their devices switch models.

    For example: fleetloop device-classes list
    """
    return Items(client("viewer").list_device_classes(), views.DEVICE_CLASS)


@Verb(baselines)("list", watched=True)
def list_baselines() -> Answer:
    """List what each device class runs by default, and since when.

    For example: fleetloop baselines list
    """
    return Items(client("viewer").list_baselines(), views.BASELINE)
