"""`fleetloop models`, `versions` and `releases`: what there is to run."""

from typing import Annotated, Any

import typer

from control_plane.cli import completion
from control_plane.cli.answers import Answer, Change, Items, One
from control_plane.cli.command import Noun, Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.client import Calls
from control_plane.registry.schemas import ReleaseCreate


class ModelNoun(Noun):
    """`models NAME` lists the versions of that model."""

    other = "versions"


models = typer.Typer(cls=ModelNoun, help="Models: named tasks with an input and output contract.")
versions = typer.Typer(cls=Noun, help="Model versions: immutable sets of files, known by their content digest.")
releases = typer.Typer(cls=Noun, help="Releases: what may be deployed.")
Model = Annotated[str, typer.Argument(help="the model's name", autocompletion=completion.models)]
OfModel = Annotated[str | None, typer.Option("--model", help="only of this model", autocompletion=completion.models)]


@Verb(models)("list", watched=True)
def list_models() -> Answer:
    """List models.

    For example: fleetloop models list -o name
    """
    return Items(client("viewer").list_models(), views.MODEL)


@Verb(models)("get", watched=True)
def get_model(name: Model) -> Answer:
    """Show one model: its contract, events, gate and default plan.

    For example: fleetloop models get warehouse-amr-drive -o yaml
    """
    return One(client("viewer").get_model(name), views.MODEL)


@Verb(models)("versions", watched=True)
def model_versions(name: Model) -> Answer:
    """List the versions of a model.

    For example: fleetloop models versions warehouse-amr-drive
    """
    return Items(client("viewer").list_versions(name), views.VERSION)


@Verb(versions)("list", watched=True)
def list_versions(model: OfModel = None) -> Answer:
    """List versions, of one model or of all.

    For example: fleetloop versions list --model warehouse-amr-drive -o wide
    """
    c = client("viewer")
    names = [model] if model else [each.name for each in c.list_models()]
    return Items((version for name in names for version in c.list_versions(name)), views.VERSION)


@Verb(versions)("get", watched=True)
def get_version(content: Annotated[str, typer.Argument(help="its content digest")]) -> Answer:
    """Show one version: its files, what it was trained from, its card.

    For example: fleetloop versions get CONTENT -o yaml
    """
    return One(client("viewer").get_version(content), views.VERSION)


@Verb(releases)("list", watched=True)
def list_releases(model: OfModel = None) -> Answer:
    """List releases and who approved them.

    For example: fleetloop releases list --model warehouse-amr-drive
    """
    return Items(client("viewer").list_releases(model), views.RELEASE)


@Verb(releases)("get", watched=True)
def get_release(
    digest: Annotated[str, typer.Argument(help="its digest", autocompletion=completion.releases)],
) -> Answer:
    """Show one release.

    For example: fleetloop releases get RELEASE
    """
    return One(client("viewer").get_release(digest), views.RELEASE)


@Verb(releases)("create", changes=True)
def create_release(
    content: Annotated[str, typer.Argument(help="content digest of a version")],
    device_class: Annotated[
        list[str], typer.Option(help="for which classes; several times", autocompletion=completion.device_classes)
    ],
    reason: Annotated[str, typer.Option(help="why")] = "",
) -> Answer:
    """Make a release of a version for device classes.

    For example: fleetloop releases create CONTENT --device-class sim-amr --reason "fewer near misses"
    """
    values: dict[str, Any] = {"content_digest": content, "device_classes": device_class, "reason": reason}
    return Change("pipeline", [Calls.create_release.ask(ReleaseCreate(**values))], views.RELEASE)
