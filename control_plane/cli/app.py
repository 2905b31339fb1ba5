"""The `fleetloop` command."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from control_plane.cli.demo import DemoOptions, run_demo
from control_plane.cli.stack import default_home
from control_plane.kit.errors import Problem

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The loop from field to field: data, training, simulation, evidence, release, staged rollout.",
)
console = Console()


@app.callback()
def _root() -> None:
    """Keep `demo` a sub-command even while it is the only one."""


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


def main() -> None:
    try:
        app()
    except Problem as error:
        console.print(f"[red]{error.code}:[/red] {error.detail}")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
