"""`fleetloop demo`: the whole loop on one machine in one terminal."""

import contextlib
import fcntl
import json
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from control_plane.cli.demo_report import build_report, print_report
from control_plane.cli.fleet_host import FieldOptions, FleetHost
from control_plane.cli.output import literal
from control_plane.cli.stack import Stack, StackOptions, wipe
from control_plane.cli.story import Story, StoryError
from control_plane.cli.workloads import read_workload
from control_plane.client import Client, ClientError
from control_plane.kit.errors import Conflict, Problem

ROLES = ("admin", "operator", "approver", "pipeline", "viewer")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """`rate` bounds the field's speed as a multiple of real time; `min_events` is how many incidents ask for a run."""

    home: Path
    workload: str = "warehouse_amr"
    seed: int = 1
    robots: int = 36
    rate: float = 25.0
    min_events: int = 90
    leave: bool = False
    report: Path | None = None
    data: Path | None = None
    orchestrator: str = "prefect"
    port: int = 0
    first_recipe: str = "standard"


class Stopped(Exception):  # noqa: N818 - Ctrl-C, not a failure
    pass


class Teller:
    """Says what is going on, as progress lines."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[step]}"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
        )
        self._task: TaskID | None = None

    @contextlib.contextmanager
    def step(self, story: Story, name: str, title: str) -> Iterator[None]:
        self._task = self._progress.add_task("", total=1, step=f"{title:<42}")
        with story.timed(name):
            yield
        self._progress.update(self._task, completed=1)

    def say(self, text: str, _: float | None = None) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=text[:110])

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def run_demo(options: DemoOptions, console: Console) -> int:
    """Run it; return 0 if everything came as promised, 1 if not, 130 after Ctrl-C."""
    options.home.mkdir(parents=True, exist_ok=True)
    with _only_one(options.home):
        wipe(options.home / "demo")
        _, spec = read_workload(options.workload)
        stack = Stack(
            StackOptions(
                home=options.home / "demo",
                port=options.port,
                check_in_s=1.5,
                tick_s=0.5,
                evidence_cell_s=5,
                orchestrator=options.orchestrator,
                data=options.data,
            )
        )
        _stop_on_signals()
        try:
            return _run(options, console, stack, spec)
        except Stopped:
            console.print("\nstopping everything; run it again whenever you like")
            return 130
        except (StoryError, ClientError, Problem, TimeoutError) as error:
            console.print(f"[red]the demo stopped:[/red] {literal(error)}\nlogs: {stack.home / 'logs'}")
            return 1
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            stack.stop()


def _run(options: DemoOptions, console: Console, stack: Stack, spec: dict[str, Any]) -> int:
    begun = time.monotonic()
    stack.start()
    console.print(
        f"control plane [link]{stack.url}[/link]   sign in with the token in "
        f"{stack.home / 'tokens' / 'admin.token'}\n"
        f"Prefect       [link]{stack.prefect_url}[/link]\n"
        "The field is a simulation; so every field figure below comes from simulated robots.\n"
    )
    clients = {role: Client(stack.url, stack.tokens[role]) for role in ROLES}
    host = FleetHost(stack, spec, FieldOptions(options.robots, options.seed, options.rate))
    with Teller(console) as teller:
        story = Story(stack, options.workload, spec, host, options.seed, clients, teller.say)
        story.seconds["start"] = time.monotonic() - begun
        tell(story, teller, options)
    report = build_report(story, time.monotonic() - begun, options.seed)
    print_report(report, console)
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=2, default=str) + "\n")
        console.print(f"report: {options.report}")
    if not options.leave:
        console.print("the fleet drives on; Ctrl-C ends it")
        threading.Event().wait()
    return 0 if report["ok"] else 1


def tell(story: Story, teller: Teller, options: DemoOptions) -> None:
    """Go through the seven steps. Candidates train while v2 rolls out, because nothing makes them wait."""
    with teller.step(story, "enrol", "1 robots enrol"):
        story.begin()
    with teller.step(story, "v1", "2 train, gate and install v1"):
        story.first_version(options.first_recipe)
    story.arm_trigger(options.min_events)
    with teller.step(story, "field", "3 v1 drives, incidents come home"):
        run = story.wait_triggered()
    with teller.step(story, "loop", "4 the field asks; v2 is trained and gated"):
        story.improved_version(run)
    _candidates(story, teller)


def _candidates(story: Story, teller: Teller) -> None:
    if story.bad_recipe:
        story.ask_candidate("bad", story.bad_recipe)
    if story.improved:
        with teller.step(story, "rollout", "4 v2 goes out in stages"):
            story.roll_out_improved()
    if story.improved and story.subtle_recipe:
        story.ask_candidate("subtle", story.subtle_recipe)
    if story.bad_recipe:
        with teller.step(story, "bad", "5 a bad candidate meets the gate"):
            story.candidate("bad")
    if "subtle" in story.runs:
        with teller.step(story, "subtle", "6 a subtle candidate is trained"):
            story.candidate("subtle")
        with teller.step(story, "halt", "6 overridden into canary; the field halts it"):
            story.override()


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    with (home / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(f"another demo runs in {home}; stop it first") from error
        yield


def _stop_on_signals() -> None:
    def stop(*_: object) -> None:
        raise Stopped

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
