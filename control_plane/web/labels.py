"""What nodes of lineage are called on pages, and which page is their own."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from control_plane.datasets import service as datasets
from control_plane.evaluation import service as evaluation
from control_plane.fleet import service as fleet
from control_plane.kit.db import Session
from control_plane.lineage.domain import Kind
from control_plane.lineage.schemas import LineageNode
from control_plane.telemetry import service as telemetry
from control_plane.web.names import Names
from control_plane.web.render import short_id

PAGES = {
    Kind.DEVICE: "/fleet/",
    Kind.RECORDING: "/recordings/",
    Kind.MODEL_VERSION: "/versions/",
    Kind.GATE: "/gates/",
    Kind.RELEASE: "/releases/",
    Kind.ROLLOUT: "/rollouts/",
}


@dataclass(frozen=True, slots=True)
class Labels:
    """Words for some nodes, and the numbers of those field events that are still kept."""

    words: Mapping[LineageNode, str]
    events: Mapping[str, int]

    def __getitem__(self, node: LineageNode) -> str:
        return self.words[node]

    def page(self, node: LineageNode) -> str | None:
        """Return the address of a thing's own page, if it has one."""
        if node.kind is Kind.FIELD_EVENT:
            return f"/events/{self.events[node.name]}" if node.name in self.events else None
        return PAGES[node.kind] + quote(node.name, safe="") if node.kind in PAGES else None


def lineage_page(node: LineageNode) -> str:
    """Return the address of a thing's lineage; ids of field events are devices' own words."""
    return f"/lineage/{node.kind}/{quote(node.name, safe='')}"


async def load_labels(session: Session, names: Names, nodes: Collection[LineageNode]) -> Labels:
    """Return words for nodes, a query per kind that needs one: serials of devices, names of data and suites."""
    of = {kind: [node.name for node in nodes if node.kind is kind] for kind in Kind}
    known = {
        Kind.DEVICE: await fleet.serials(session, of[Kind.DEVICE]),
        Kind.DATASET: await datasets.names_of(session, of[Kind.DATASET]),
        Kind.SUITE: await evaluation.suite_names(session, of[Kind.SUITE]),
        Kind.MODEL_VERSION: {name: names.label(name) for name in of[Kind.MODEL_VERSION]},
    }
    events = await telemetry.numbers_of(session, of[Kind.FIELD_EVENT])
    return Labels({node: known.get(node.kind, {}).get(node.name) or _short(node) for node in nodes}, events)


def _short(node: LineageNode) -> str:
    name = node.name
    if node.kind is Kind.FIELD_EVENT:
        return name if len(name) <= 12 else f"…{name[-9:]}"
    return short_id(name) if "_" in name else name[:13] if name.startswith("train-") else name[:9]
