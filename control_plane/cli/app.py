"""The `fleetloop` command."""

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from control_plane.cli import approvals, connection, output, prepare, simulate, verify
from control_plane.cli.answers import Answer
from control_plane.cli.backups import backup
from control_plane.cli.command import ContextName, TokenFile, Url, Verb
from control_plane.cli.connection import Where
from control_plane.cli.home import default_home
from control_plane.cli.keys import keys
from control_plane.cli.later import Later
from control_plane.cli.nouns import (
    context,
    devices,
    evidence,
    field,
    lineage,
    people,
    places,
    registry,
    rollouts,
    runs,
    short,
    signing_in,
    webhooks,
)
from control_plane.cli.nouns.gates import gates
from control_plane.cli.output import Format, complain
from control_plane.cli.sweeping import objects
from control_plane.cli.workloads import read_workload
from control_plane.kit.errors import Problem

if TYPE_CHECKING:
    from control_plane.cli import demo as demos
    from control_plane.cli import stack as stacks
    from control_plane.cli import up as ups
else:
    demos = Later("control_plane.cli.demo")
    stacks = Later("control_plane.cli.stack")
    ups = Later("control_plane.cli.up")

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The loop from field to field: data, training, simulation, evidence, release, staged rollout.",
)
console = Console()
NOUNS = {
    "artifacts": field.artifacts,
    "audit": people.audit,
    "baselines": devices.baselines,
    "clusters": places.clusters,
    "context": context.context,
    "datasets": field.datasets,
    "device-classes": devices.classes,
    "devices": devices.devices,
    "evaluations": evidence.evaluations,
    "events": field.events,
    "exposure": field.exposure,
    "gates": gates,
    "jobs": places.jobs,
    "backup": backup,
    "keys": keys,
    "lineage": lineage.lineage,
    "models": registry.models,
    "objects": objects,
    "people": signing_in.people,
    "pipelines": runs.pipelines,
    "recordings": field.recordings,
    "releases": registry.releases,
    "reviews": people.reviews,
    "rollouts": rollouts.rollouts,
    "runs": runs.runs,
    "scenarios": evidence.scenarios,
    "suites": evidence.suites,
    "tokens": people.tokens,
    "trainings": field.trainings,
    "versions": registry.versions,
    "webhooks": webhooks.webhooks,
}
LOOKS: dict[str, Callable[..., Answer]] = {
    "coverage": evidence.coverage,
    "doctor": short.doctor,
    "ledger": runs.ledger,
    "prediction": evidence.prediction,
    "simulate": simulate.simulate,
    "status": short.status,
    "verify": verify.verify,
    "whoami": short.whoami,
}
CHANGES: dict[str, Callable[..., Answer]] = {
    "add": short.add,
    "approve": approvals.approve,
    "init": context.init,
    "prepare": prepare.prepare,
    "revoke": approvals.revoke,
}
OLD: dict[str, Callable[..., Answer]] = {
    "answer": people.answer_review,
    "enrolment-token": devices.enrolment_token,
    "roll-out": rollouts.create_rollout,
    "run": runs.create_run,
    "scenario": evidence.scenario,
    "token": people.token,
    **{wish.__name__: wish for wish in rollouts.WISHES},
}
"""Words from before there were nouns; they stay, and are not shown."""

verb = Verb(app)
for name, group in NOUNS.items():
    app.add_typer(group, name=name, rich_help_panel="Nouns, each with its verbs")
app.add_typer(gates, name="gate", hidden=True)
for name, look in LOOKS.items():
    verb(name, watched=name == "status")(look)
for name, change in (CHANGES | OLD).items():
    verb(name, changes=True, hidden=name in OLD)(change)
app.command("sign")(approvals.sign)
app.command("approver-key")(approvals.approver_key)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleetloop {version('fleetloop')}")
        raise typer.Exit


@app.callback()
def begin(
    context_name: ContextName = None,
    url: Url = None,
    token_file: TokenFile = None,
    _: Annotated[
        bool, typer.Option("--version", help="print the version, and stop", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Run the loop from field to field: data, training, simulation, evidence, release, staged rollout."""
    connection.where.set(Where(context_name, url, token_file))
    output.chosen.set(Format.TABLE)


@app.command()
def up(
    home: Annotated[Path | None, typer.Option(help="folder to keep everything in")] = None,
    port: Annotated[int, typer.Option(help="port of the control plane")] = 8080,
    device_port: Annotated[int, typer.Option(help="port for devices, which remember it when they enrol")] = 8443,
    prefect_port: Annotated[int, typer.Option(help="port of Prefect")] = 4200,
    orchestrator: Annotated[str, typer.Option(help="prefect, subprocess or none")] = "prefect",
    data: Annotated[Path | None, typer.Option(help="a workload's data folder, passed on to its commands")] = None,
    database_url: Annotated[str | None, typer.Option(envvar="FLEETLOOP_DATABASE_URL", help="PostgreSQL to use")] = None,
) -> None:
    """Run the whole control plane on this machine until Ctrl-C: PostgreSQL, API, worker, Prefect and its runner.

    For example: fleetloop up --home /srv/fleetloop --port 8080
    """
    stack = stacks.Stack(
        stacks.StackOptions(
            home=home or default_home(),
            port=port,
            device_port=device_port,
            prefect_port=prefect_port,
            data=data,
            orchestrator=orchestrator,
            database_url=database_url,
        )
    )
    raise typer.Exit(ups.run_up(stack, console))


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
    """Close the loop on this machine: train, drive, learn, gate, roll out, halt. About four minutes.

    For example: fleetloop demo --exit --report report.json
    """
    options = demos.DemoOptions(
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
    raise typer.Exit(demos.run_demo(options, console))


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
    """Go round the loop once with a workload.

    For example: fleetloop loop --workload recorded_traffic --data DIR
    """
    _, spec = read_workload(workload)
    if spec.get("data_required") and data is None:
        raise typer.BadParameter(f"{workload} needs --data DIR: {spec['title']}")
    if data is not None and not data.is_dir():
        raise typer.BadParameter(f"{data} is not a folder")
    options = demos.DemoOptions(
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
    raise typer.Exit(demos.run_demo(options, console))


UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]
"""Every way to type a command wrongly; which package it lives in depends on typer's version."""


def main() -> None:
    """Run the command; whatever goes wrong is one line on stderr and a stable exit status, never a traceback."""
    if wants_json(sys.argv[1:]):
        output.chosen.set(Format.JSON)  # also for what is wrong with the command line itself
    try:
        raise SystemExit(app(prog_name="fleetloop", standalone_mode=False) or 0)
    except UsageProblem as error:
        _ended(2, "usage", _usage(error), error)
    except Problem as error:
        _ended(1, error.code, error.detail, error)
    except typer.Abort as error:
        _ended(2, "aborted", "this asks a question and nobody answered; see --help for the option that does", error)
    except OSError as error:
        _ended(1, "os_error", str(error), error)
    finally:
        connection.close()


def _ended(status: int, code: str, detail: str, error: Exception) -> None:
    complain(code, detail, 0)
    raise SystemExit(status) from error


def _usage(error: Exception) -> str:
    said = error.format_message() if hasattr(error, "format_message") else str(error)
    path = getattr(getattr(error, "ctx", None), "command_path", "fleetloop")
    return f"{' '.join(said.split())} (see {path} --help)"


def wants_json(words: list[str]) -> bool:
    pairs = zip(words, [*words[1:], ""], strict=True)
    return "--json" in words or any(
        word in {"-ojson", "--output=json"} or (word in {"-o", "--output"} and after == "json") for word, after in pairs
    )


if __name__ == "__main__":
    main()
