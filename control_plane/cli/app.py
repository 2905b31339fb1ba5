"""The `fleetloop` command."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from control_plane.cli import approvals, gates, rollouts, simulate, verify
from control_plane.cli.commands import COMMANDS
from control_plane.cli.demo import DemoOptions, run_demo
from control_plane.cli.keys import keys
from control_plane.cli.people import person
from control_plane.cli.stack import Stack, StackOptions, default_home
from control_plane.cli.up import run_up
from control_plane.cli.workloads import read_workload
from control_plane.kit.errors import Problem

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The loop from field to field: data, training, simulation, evidence, release, staged rollout.",
)
console = Console()


for command in (*COMMANDS, *approvals.COMMANDS, *verify.COMMANDS, *simulate.COMMANDS, *gates.COMMANDS):
    app.command(command.__name__.replace("_", "-"))(command)
app.command("roll-out")(rollouts.roll_out)
app.add_typer(keys, name="keys")
app.add_typer(rollouts.rollouts, name="rollouts")
app.add_typer(rollouts.devices, name="devices")
app.add_typer(gates.gate, name="gate")
app.add_typer(person, name="person")


@app.command()
def up(
    home: Annotated[Path | None, typer.Option(help="folder to keep everything in")] = None,
    port: Annotated[int, typer.Option(help="port of the control plane")] = 8080,
    prefect_port: Annotated[int, typer.Option(help="port of Prefect")] = 4200,
    orchestrator: Annotated[str, typer.Option(help="prefect, subprocess or none")] = "prefect",
    data: Annotated[Path | None, typer.Option(help="a workload's data folder, passed on to its commands")] = None,
    database_url: Annotated[str | None, typer.Option(envvar="FLEETLOOP_DATABASE_URL", help="PostgreSQL to use")] = None,
) -> None:
    """Run the whole control plane on this machine until Ctrl-C: PostgreSQL, API, worker, Prefect and its runner."""
    stack = Stack(
        StackOptions(
            home=home or default_home(),
            port=port,
            prefect_port=prefect_port,
            data=data,
            orchestrator=orchestrator,
            database_url=database_url,
        )
    )
    raise typer.Exit(run_up(stack, console))


@app.command()
def demo(
    leave: Annotated[bool, typer.Option("--exit", help="end after the table instead of driving on")] = False,
    report: Annotated[Path | None, typer.Option(help="write the table as JSON to this file")] = None,
    seed: Annotated[int, typer.Option(help="seed of field, training and scenarios")] = 1,
    robots: Annotated[int, typer.Option(min=6, max=200, help="how many simulated robots")] = 36,
    rate: Annotated[float, typer.Option(help="how much faster than real time the field may drive")] = 25.0,
    min_events: Annotated[int, typer.Option(help="how many incidents ask for a run")] = 90,
    home: Annotated[Path | None, typer.Option(help="folder to work in")] = None,
    orchestrator: Annotated[str, typer.Option(help="prefect or subprocess")] = "prefect",
    port: Annotated[int, typer.Option(help="port of the control plane; 0 takes a free one")] = 0,
) -> None:
    """Close the loop on this machine: train, drive, learn, gate, roll out, halt. About four minutes."""
    options = DemoOptions(
        home=home or default_home(),
        seed=seed,
        robots=robots,
        rate=rate,
        min_events=min_events,
        leave=leave,
        report=report,
        orchestrator=orchestrator,
        port=port,
    )
    raise typer.Exit(run_demo(options, console))


@app.command()
def loop(
    workload: Annotated[str, typer.Option(help="a folder with a workload.yaml, or the name of one of ours")],
    data: Annotated[Path | None, typer.Option(help="the workload's data folder; it stays where it is")] = None,
    seed: Annotated[int, typer.Option(help="seed of field and training")] = 1,
    robots: Annotated[int, typer.Option(min=6, max=200, help="how many simulated devices")] = 24,
    rate: Annotated[float, typer.Option(help="how much faster than real time the field may drive")] = 25.0,
    min_events: Annotated[int, typer.Option(help="how many incidents ask for a run")] = 60,
    first_recipe: Annotated[str, typer.Option(help="recipe of the first version")] = "standard",
    report: Annotated[Path | None, typer.Option(help="write the table as JSON to this file")] = None,
    home: Annotated[Path | None, typer.Option(help="folder to work in")] = None,
    orchestrator: Annotated[str, typer.Option(help="prefect or subprocess")] = "prefect",
) -> None:
    """Go round the loop once with a workload, for example: fleetloop loop --workload recorded_traffic --data DIR."""
    _, spec = read_workload(workload)
    if spec.get("data_required") and data is None:
        raise typer.BadParameter(f"{workload} needs --data DIR: {spec['title']}")
    if data is not None and not data.is_dir():
        raise typer.BadParameter(f"{data} is not a folder")
    options = DemoOptions(
        home=home or default_home(),
        workload=workload,
        seed=seed,
        robots=robots,
        rate=rate,
        min_events=min_events,
        leave=True,
        report=report,
        orchestrator=orchestrator,
        data=data,
        first_recipe=first_recipe,
    )
    raise typer.Exit(run_demo(options, console))


def main() -> None:
    try:
        app()
    except Problem as error:
        console.print(f"[red]{error.code}:[/red] {error.detail}")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
