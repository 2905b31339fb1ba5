"""One thing, one format: bytes under a name."""

import asyncio
import re
from dataclasses import dataclass

from control_plane.exports.domain import OF_A_VERSION, Format
from control_plane.exports.domain.in_toto import statement_of
from control_plane.exports.domain.ml_bom import bill_of
from control_plane.exports.domain.openlineage import events_of, lines_of
from control_plane.exports.domain.values import Making, Site
from control_plane.exports.service.gathering import Reader
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, NotFound
from control_plane.lineage.domain import Kind, Node

MEDIA_TYPES = {
    Format.OPENLINEAGE: ("application/x-ndjson", "openlineage.jsonl"),
    Format.IN_TOTO: ("application/vnd.in-toto+json", "intoto.json"),
    Format.CYCLONEDX: ("application/vnd.cyclonedx+json; version=1.6", "cdx.json"),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """A document; the name is one for a file."""

    name: str
    media_type: str
    data: bytes


async def export(
    session: Session, root: Node, wanted: Format, *, url: str, depth: int = 20, trains: bool = False
) -> Exported:
    """Write a thing's lineage.

    Args:
        session: of the caller.
        root: what it is about.
        wanted: the format; a statement and a bill are about one model version.
        url: of this installation.
        depth: how far the walk goes, for run events.
        trains: whether the caller must not see what hidden suites found.

    Raises:
        NotFound: there is no such thing, or nothing was made from or of it.
        Invalid: this kind of thing has no document of this format, or it would be too large.
    """
    media_type, suffix = MEDIA_TYPES[wanted]
    reader, site = Reader(session, trains), Site(url.rstrip("/"))
    if wanted is Format.OPENLINEAGE:
        made = await reader.made(root, depth)
        data = await asyncio.to_thread(lambda: lines_of(events_of(made, site)))
        if not data:
            raise NotFound(f"{root} was not made by a run, and no run was made with it")
        return Exported(f"{root.kind}-{_plain(root.name)}.{suffix}", media_type, data)
    if root.kind not in OF_A_VERSION:
        raise Invalid(
            f"{wanted} is about one model version; a {_words(root.kind)} is none, ask for openlineage",
            code="export_not_of_a_version",
        )
    making = await reader.making(await reader.version_of(root))
    data = await asyncio.to_thread(_document, wanted, making, site)
    return Exported(f"{making.version.model}-{making.version.version}.{suffix}", media_type, data)


def _document(wanted: Format, making: Making, site: Site) -> bytes:
    return statement_of(making) if wanted is Format.IN_TOTO else bill_of(making, site)


def _plain(name: str) -> str:
    """Return a name for a file: ids of field events are devices' own words."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:16].strip(".") or "thing"


def _words(kind: Kind) -> str:
    return kind.replace("_", " ")
