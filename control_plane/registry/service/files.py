"""Files that come and go by URL: whole, or in parts that outlive a killed upload."""

from control_plane.kit.errors import Conflict, Invalid, NotFound
from control_plane.kit.objects import CorruptObjectError, Layout, ObjectMissingError, ObjectStore
from control_plane.kit.uploads import settle
from control_plane.registry.schemas import ArtifactCreate, ArtifactTicket, PartsCreate, PartsTicket, PartTicket

URL_S = 3600
MOST_AT_ONCE = 500
"""Parts in one ticket: a larger file is asked about several times."""


async def announce_artifact(objects: ObjectStore, body: ArtifactCreate) -> ArtifactTicket:
    """Say where to put a file, unless it is there."""
    if await settle(objects, body.sha256, body.size_bytes) is not None:
        return ArtifactTicket(
            sha256=body.sha256, have=True, upload_url=None, download_url=await objects.download_url(body.sha256, URL_S)
        )
    url = await objects.upload_url(body.sha256, body.size_bytes, URL_S)
    return ArtifactTicket(sha256=body.sha256, have=False, upload_url=url, download_url=None)


async def locate_artifact(objects: ObjectStore, sha256: str) -> ArtifactTicket:
    if await objects.stat(sha256) is None:
        raise NotFound(f"there is no artifact {sha256}")
    return ArtifactTicket(
        sha256=sha256, have=True, upload_url=None, download_url=await objects.download_url(sha256, URL_S)
    )


async def announce_parts(objects: ObjectStore, sha256: str, body: PartsCreate) -> PartsTicket:
    """Say which parts are missing and where to put them."""
    if await settle(objects, sha256, body.size_bytes) is not None:
        return _all_there(sha256, body)
    layout = Layout(body.size_bytes, body.part_bytes)
    there = await objects.parts(sha256, layout)
    missing = [number for number in range(1, layout.count + 1) if number not in there]
    asked = missing[:MOST_AT_ONCE]
    urls = await objects.part_urls(sha256, layout, asked, URL_S)
    return PartsTicket(
        sha256=sha256,
        have=False,
        size_bytes=body.size_bytes,
        missing=len(missing),
        missing_bytes=sum(layout.size_of(number) for number in missing),
        parts=[
            PartTicket(number=number, start=layout.start_of(number), size_bytes=layout.size_of(number), upload_url=url)
            for number, url in zip(asked, urls, strict=True)
        ],
    )


async def join_parts(objects: ObjectStore, sha256: str, body: PartsCreate) -> PartsTicket:
    """Make one file of the parts; a file that is there already is fine.

    Raises:
        Conflict: a part is not there. Invalid: the parts are not this file; they are gone, begin again.
    """
    if await settle(objects, sha256, body.size_bytes) is None:
        try:
            await objects.join(sha256, Layout(body.size_bytes, body.part_bytes))
        except ObjectMissingError as error:
            raise Conflict(f"not all parts of {sha256} are there", code="parts_missing") from error
        except CorruptObjectError as error:
            raise Invalid(error.detail, code=error.code) from error
    return _all_there(sha256, body)


def _all_there(sha256: str, body: PartsCreate) -> PartsTicket:
    return PartsTicket(sha256=sha256, have=True, size_bytes=body.size_bytes, missing=0, missing_bytes=0, parts=[])
