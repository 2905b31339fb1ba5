"""The audit trail: searched, checked on the page, taken away as JSON lines. Filters stand in the address."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Query

from control_plane.audit import service as audit
from control_plane.audit.schemas import AuditCheck, AuditFilter, AuditItem
from control_plane.kit import clock
from control_plane.kit.errors import Invalid
from control_plane.kit.http import Cursor, Response
from control_plane.kit.pages import Page
from control_plane.web.edge import PageCall, SeeCall, pages

CHECK_S = 30.0
SHOWN = 50
EXPORTED_AT_ONCE, MOST_EXPORTED = 500, 50_000
Words = Annotated[str, Query(max_length=200)]
audit_pages = pages()


@dataclass(frozen=True, slots=True)
class Search:
    """What somebody looks for, as they wrote it, as the audit trail takes it, and what is wrong with which field."""

    given: dict[str, str]
    matching: AuditFilter
    wrong: dict[str, str]

    @property
    def query(self) -> str:
        return urlencode(self.given)


async def _search(
    actor: Words = "", verb: Words = "", subject: Words = "", text: Words = "", since: Words = "", until: Words = ""
) -> Search:
    said = {"actor": actor, "verb": verb, "subject": subject, "text": text, "since": since, "until": until}
    given = {name: value.strip() for name, value in said.items() if value.strip()}
    words = {name: value for name, value in given.items() if name not in ("since", "until")}
    times, wrong = dict[str, datetime](), dict[str, str]()
    for name in ("since", "until"):
        try:
            times |= {name: instant_of(given[name])} if name in given else {}
        except Invalid as error:
            wrong[name] = error.detail
    return Search(given, AuditFilter.model_validate(words | times), wrong)


def instant_of(text: str) -> datetime:
    """Read a day or an instant; without a zone it is UTC.

    Raises:
        Invalid: it is neither.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid("a time is written 2026-11-27 or 2026-11-27T14:30") from error
    return read if read.tzinfo else read.replace(tzinfo=UTC)


Searched = Annotated[Search, Depends(_search)]


@audit_pages.get("/audit")
async def show_audit(call: SeeCall, search: Searched, after: Cursor = None) -> Response:
    if search.wrong:
        found = Page[AuditItem](items=[], next=None)
    else:
        found = await audit.list_entries(call.session, matching=search.matching, after=after, limit=SHOWN)
    check, at = await call.desk.cache.get("audit", CHECK_S, lambda: _check(call))
    return call.show("audit.html", found=found, search=search, check=check, checked_at=at)


@audit_pages.get("/audit.jsonl")
async def export_audit(call: SeeCall, search: Searched) -> Response:
    """Give the newest entries that match, one a line, newest first; whole, so that hashes can be checked elsewhere."""
    for name, words in search.wrong.items():
        raise Invalid(f"{name}: {words}")
    lines: list[str] = []
    after: str | None = None
    while len(lines) < MOST_EXPORTED:
        found = await audit.list_entries(call.session, matching=search.matching, after=after, limit=EXPORTED_AT_ONCE)
        lines += [item.model_dump_json() for item in found.items]
        after = found.next
        if after is None:
            break
    headers = {"Content-Disposition": f'attachment; filename="audit-{clock.now():%Y%m%dT%H%M%SZ}.jsonl"'}
    return Response("".join(f"{line}\n" for line in lines), media_type="application/jsonl", headers=headers)


async def _check(call: PageCall) -> tuple[AuditCheck, datetime]:
    return await audit.verify(call.session), clock.now()
