"""The audit page: found by actor, verb, subject, words and time; checked; taken away."""

import json
from datetime import timedelta

import pytest

from control_plane.audit import service as audit
from control_plane.audit.domain import Entry, first_break
from control_plane.kit import clock
from control_plane.kit.errors import Invalid
from control_plane.kit.roles import Role
from control_plane.web.pages.audit import instant_of
from tests.support.browsing import signed_in
from tests.support.server import Server

ENTRIES = (
    ("ada", "rollout.held", "roll_1", "100% of it & more"),
    ("ada", "rollout.halted", "roll_2", "harm_is proven"),
    ("bo", "rolloutish", "roll_1", "nothing to do with it"),
)


async def _write(server: Server) -> None:
    for actor, verb, subject, because in ENTRIES:
        async with server.context.database.transaction() as session:
            await audit.record(session, actor, verb, subject, because)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("actor=ada", {0, 1}),
        ("verb=rollout", {0, 1}),
        ("verb=rollout.held", {0}),
        ("verb=rollout_", set()),
        ("subject=roll_1", {0, 2}),
        ("text=PROVEN", {1}),
        ("text=100%25", {0}),
        ("text=harm_is", {1}),
        ("text=harmXis", set()),
        ("text=%25", {0}),
        ("actor=ada&subject=roll_1", {0}),
        ("since=2001-01-01&until=2002-01-01T10:00", set()),
        ("since=2001-01-01", {0, 1, 2}),
        ("actor=%20ada%20", {0, 1}),
    ],
)
async def test_entries_are_found(server: Server, query: str, expected: set[int]) -> None:
    await _write(server)
    viewer = await signed_in(server, Role.VIEWER)
    lines = (await viewer.get(f"/audit.jsonl?{query}")).text.splitlines()
    found = {(e["actor"], e["action"], e["subject"], e["because"]) for e in map(json.loads, lines)}
    assert found == {ENTRIES[i] for i in expected}
    page = await viewer.get(f"/audit?{query}")
    assert page.status_code == 200
    assert page.text.count("<tr><td") == len(expected)


async def test_filters_stay_in_the_address_and_the_export_can_be_checked(server: Server) -> None:
    async with server.context.database.transaction() as session:
        for i in range(60):
            await audit.record(session, "ada & bo", "thing.done", f"t{i}", "because", number=i)
    viewer = await signed_in(server, Role.VIEWER)
    page = await viewer.get("/audit?actor=ada+%26+bo&verb=thing")
    assert 'href="?actor=ada+%26+bo&amp;verb=thing&amp;after=' in page.text
    assert 'href="/audit.jsonl?actor=ada+%26+bo&amp;verb=thing"' in page.text
    assert "chain intact" in page.text
    more = page.text.split('class="older"><a href="')[1].split('"')[0].replace("&amp;", "&")
    assert (await viewer.get(f"/audit{more}")).text.count("<tr><td") == 10
    answer = await viewer.get("/audit.jsonl")
    assert answer.headers["content-disposition"].startswith('attachment; filename="audit-')
    entries = [json.loads(line) for line in reversed(answer.text.splitlines())]
    assert first_break(Entry(**(e | {"at": clock.now().fromisoformat(e["at"])})) for e in entries) is None
    assert len(entries) >= 60


async def test_a_broken_chain_is_said_on_the_page(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    await _write(server)
    monkeypatch.setattr("control_plane.audit.service.first_break", lambda *_: 2)
    assert "chain broken at entry 2" in (await (await signed_in(server, Role.VIEWER)).get("/audit")).text


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert instant_of("2026-11-27T14:30+02:00") == instant_of("2026-11-27T12:30")
    assert instant_of("2026-11-28") - instant_of("2026-11-27") == timedelta(days=1)
    for odd in ("yesterday", "2026-13-01", "", "9" * 40):
        with pytest.raises(Invalid):
            instant_of(odd)


async def test_a_time_that_is_none_is_said_at_its_field(server: Server) -> None:
    browser = await signed_in(server, Role.VIEWER)
    answer = await browser.get("/audit?actor=ada&since=last+week")
    assert answer.status_code == 200
    assert 'name="since" value="last week"' in answer.text, "what was typed is still there"
    assert 'value="ada"' in answer.text
    assert 'aria-describedby="wrong-since"' in answer.text
    assert "From: a time is written" in answer.text
    assert (await browser.get("/audit.jsonl?since=last+week")).status_code == 422
