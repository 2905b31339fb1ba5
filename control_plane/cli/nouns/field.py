"""`fleetloop events`, `recordings`, `exposure`, `artifacts`, `datasets` and `trainings`: what the field says."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from control_plane.cli import completion
from control_plane.cli.answers import Answer, Items, One
from control_plane.cli.command import DryRun, Noun, Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.cli.output import View, errors, say
from control_plane.client import PART_BYTES, Told, file_digest
from control_plane.factory.schemas import FileRef
from control_plane.telemetry.domain import RecordingState

events = typer.Typer(cls=Noun, help="Field events: what happened to devices.")
recordings = typer.Typer(cls=Noun, help="Recordings: logs that devices uploaded.")
exposure = typer.Typer(cls=Noun, help="Exposure: how far and how long which content was driven.")
artifacts = typer.Typer(no_args_is_help=True, help="Artifacts: files in the object store, by their sha256.")
datasets = typer.Typer(cls=Noun, help="Datasets: immutable lists of recordings with labels.")
trainings = typer.Typer(cls=Noun, help="Trainings: what was asked for, and what came of it.")
Sha = Annotated[str, typer.Argument(help="its sha256", autocompletion=completion.recordings)]
To = Annotated[Path | None, typer.Option("--to", help="file to write; the digest in this folder if unset")]
RATES = View("content_digest", ("content_digest", "site", "device_class", "devices", "distance_m", "counts"))


@Verb(events)("list", watched=True)
def list_events(
    kind: Annotated[str | None, typer.Option(help="only of this kind")] = None,
    content: Annotated[str | None, typer.Option(help="only while this content ran")] = None,
) -> Answer:
    """List field events, newest first.

    For example: fleetloop events list --kind collision --watch
    """
    return Items(client("viewer").list_events(kind=kind, content=content), views.EVENT)


@Verb(recordings)("list", watched=True)
def list_recordings(
    state: Annotated[RecordingState, typer.Option(help="only in this state")] = RecordingState.STORED,
    trigger: Annotated[str | None, typer.Option(help="only those this trigger made")] = None,
) -> Answer:
    """List recordings in the order they were stored.

    For example: fleetloop recordings list --trigger collision
    """
    return Items(client("viewer").list_recordings(state=state.value, trigger=trigger), views.RECORDING)


@Verb(recordings)("get", watched=True)
def get_recording(sha256: Sha) -> Answer:
    """Show one recording's facts.

    For example: fleetloop recordings get SHA256
    """
    return One(client("viewer").get_recording(sha256), views.RECORDING)


def download(sha256: Sha, to: To = None) -> Answer:
    """Get a file; it appears under its name only once its digest is right.

    For example: fleetloop recordings download SHA256 --to log.mcap
    """
    target = to or Path(sha256)
    with progress(target.name) as told:
        client("pipeline").download(sha256, target, told=told)
    return One(FileRef(sha256=sha256, size_bytes=target.stat().st_size), views.ARTIFACT)


Verb(recordings)("download")(download)


@Verb(artifacts)("download")
def download_artifact(sha256: Sha, to: To = None) -> Answer:
    """Get a file; it appears under its name only once its digest is right.

    For example: fleetloop artifacts download SHA256 --to model.onnx
    """
    return download(sha256, to)


@Verb(artifacts)("upload")
def upload(
    file: Annotated[Path, typer.Argument(help="the file", exists=True, dir_okay=False, readable=True)],
    part_bytes: Annotated[int, typer.Option(min=5 << 20, max=1 << 30, help="size of parts")] = PART_BYTES,
    dry_run: DryRun = False,
) -> Answer:
    """Put a file into the object store, unless it is there. Killed and called again, it sends only what is missing.

    For example: fleetloop artifacts upload log.mcap
    """
    if dry_run:
        ref = file_digest(file)
        parts = max(1, -(-ref.size_bytes // part_bytes))
        say(f"would send {file}: {ref.size_bytes} bytes in {parts} parts, less what is there; sha256 {ref.sha256}")
        return One(ref, views.ARTIFACT)
    with progress(file.name) as told:
        return One(client("pipeline").upload(file, part_bytes=part_bytes, told=told), views.ARTIFACT)


@contextmanager
def progress(name: str) -> Iterator[Told]:
    """Show a bar on a terminal, on stderr so that stdout stays what it is; nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=errors, disable=not errors.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        yield lambda there, of: bar.update(task, completed=there, total=of or None)


@Verb(exposure)("list", watched=True)
def list_exposure(content: Annotated[str | None, typer.Option(help="only of this content")] = None) -> Answer:
    """Sum exposure and events by content, site and class.

    For example: fleetloop exposure list
    """
    return Items(client("viewer").exposure(content), RATES)


@Verb(datasets)("list", watched=True)
def list_datasets() -> Answer:
    """List dataset versions.

    For example: fleetloop datasets list
    """
    return Items(client("viewer").list_datasets(), views.DATASET)


@Verb(datasets)("get")
def get_dataset(digest: Annotated[str, typer.Argument(help="its digest")]) -> Answer:
    """Show one dataset version with its manifest and card.

    For example: fleetloop datasets get DATASET -o yaml
    """
    return One(client("viewer").get_dataset(digest), views.DATASET)


@Verb(trainings)("list", watched=True)
def list_trainings() -> Answer:
    """List trainings, newest first.

    For example: fleetloop trainings list --watch
    """
    return Items(client("viewer").list_trainings(), views.TRAINING)


@Verb(trainings)("get", watched=True)
def get_training(key: Annotated[str, typer.Argument(help="its key")]) -> Answer:
    """Show one training with its report.

    For example: fleetloop trainings get TRAINING
    """
    return One(client("viewer").get_training(key), views.TRAINING)
