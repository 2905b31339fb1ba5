"""`fleetloop lineage`: what was made from what, looked at and taken away."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from agents.sdk.files import write_whole
from control_plane.cli.answers import Answer, Document, Items, One, Report
from control_plane.cli.command import Noun, Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.cli.output import MOST, Format, View, chosen, say, show
from control_plane.client import file_digest
from control_plane.exports.domain import Format as Export
from control_plane.lineage.domain import Kind
from control_plane.lineage.schemas import Direction, LineageGraph, LineageNode


class LineageNoun(Noun):
    """Nothing lists all edges: without a verb it shows those of one thing."""

    bare = "get"


lineage = typer.Typer(cls=LineageNoun, help="Lineage: what was made from what, from the field to devices.")
KINDS = ", ".join(Kind)
EDGE = View("what", ("what", "how", "of"), ("at",))
NODE = View("node", ("node",))
Depth = Annotated[int, typer.Option(min=1, max=50, help="how many edges deep")]


class EdgeLine(BaseModel):
    """One edge as people read it: what, how, of what."""

    what: str
    how: str
    of: str
    at: str


class NodeLine(BaseModel):
    node: str


@Verb(lineage)("get", watched=True)
def get_lineage(
    node: Annotated[str, typer.Argument(help=f"KIND/NAME; kinds are {KINDS}")],
    name: Annotated[str | None, typer.Argument(help="NAME, where the first word is only a KIND")] = None,
    up: Annotated[bool, typer.Option("--up", help="only what it was made from")] = False,
    down: Annotated[bool, typer.Option("--down", help="only what was made of it")] = False,
    kind: Annotated[
        list[Kind] | None, typer.Option(help="only nodes of this kind, and join what was between; several times")
    ] = None,
    depth: Depth = 8,
    direction: Annotated[str | None, typer.Option(help="up, down or both", hidden=True)] = None,
) -> Answer:
    """Show what a thing was made from and what was made of it, as edges.

    For example: fleetloop lineage get rollout/roll_01 --up --kind recording --kind device
    """
    where = _node(node if name is None else f"{node}/{name}")
    way = _direction(direction, up=up, down=down)
    graph = client("viewer").lineage(where.kind, where.name, way, depth, kind or None)
    if chosen.get() is Format.NAME:
        nodes = dict.fromkeys(each for edge in graph.edges for each in (edge.source, edge.target))
        return Items([NodeLine(node=_name(each, whole=True)) for each in nodes], NODE)
    return Report([graph], lambda: _tell(graph))


@Verb(lineage)("export")
def export_lineage(
    version: Annotated[str, typer.Argument(help="content digest of a model version, or KIND/NAME of another thing")],
    form: Annotated[Export, typer.Option("--format", help="openlineage, in-toto or cyclonedx")] = Export.OPENLINEAGE,
    to: Annotated[Path | None, typer.Option("--to", help="file to write; stdout if unset")] = None,
    depth: Depth = 20,
) -> Answer:
    """Take lineage away as run events, a statement with provenance, or a bill of materials.

    For example: fleetloop lineage export CONTENT --format cyclonedx --to model.cdx.json
    """
    where = _node(version if "/" in version else f"{Kind.MODEL_VERSION}/{version}")
    data = client("viewer").export_lineage(where.kind, where.name, form, depth)
    if to is None:
        return Document(data.decode())
    write_whole(to, data, durable=True)
    return One(file_digest(to), views.ARTIFACT)


def _node(text: str) -> LineageNode:
    kind, slash, name = text.partition("/")
    if not slash or not name or kind not in set(Kind):
        raise typer.BadParameter(f"{text!r} is no KIND/NAME; kinds are {KINDS}")
    return LineageNode(kind=Kind(kind), name=name)


def _direction(direction: str | None, *, up: bool, down: bool) -> Direction:
    """Return which way to go; neither flag and both of them mean both ways."""
    ways: dict[str, Direction] = {"up": "up", "down": "down", "both": "both"}
    if direction is not None and direction not in ways:
        raise typer.BadParameter(f"{direction!r} is no direction: up, down or both")
    return ways[direction or ("both" if up == down else "up" if up else "down")]


def _tell(graph: LineageGraph) -> None:
    whole = chosen.get() is Format.WIDE
    lines = [
        EdgeLine(
            what=_name(edge.target, whole=whole),
            how=edge.relation,
            of=_name(edge.source, whole=whole),
            at=f"{edge.at:%Y-%m-%dT%H:%M:%SZ}",
        )
        for edge in graph.edges[:MOST]
    ]
    show(lines, EDGE)
    if graph.truncated or len(graph.edges) > MOST:
        more = " and more than one look can follow" if graph.truncated else ""
        say(f"… {len(graph.edges)} edges{more}; -o json prints all of them")
    elif graph.deeper:
        say("it goes on behind that: take more --depth")


def _name(node: LineageNode, *, whole: bool) -> str:
    """Name a node as `lineage get` takes it; digests by their beginning, unless `whole`."""
    digest = len(node.name) == 64 and not whole
    return f"{node.kind}/{node.name[:12] if digest else node.name}"
