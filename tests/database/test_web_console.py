"""Wizard, reviews, comparison, search and the live stream over the real application."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.kit.roles import Role
from control_plane.review import service as review
from control_plane.web import pulse
from tests.browser.seed import MODEL
from tests.database.test_web import Site, form_token, open_site
from tests.support.rows import run, select

RELEASE = re.compile(r'/rollouts/new\?release=([0-9a-f]{64})"')


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(database_url, tmp_path, seeded=True) as made:
        yield made


async def newest_release(browser: httpx.AsyncClient) -> str:
    return RELEASE.findall((await browser.get("/rollouts/new")).text)[0]


async def asked(browser: httpx.AsyncClient, **fields: str) -> dict[str, str]:
    said = {"override_reason": "a drill", "plan_override": "a drill", "preempt": "yes"}
    return {"form_token": await form_token(browser), "release": await newest_release(browser)} | said | fields


async def test_the_wizard_makes_what_it_showed_and_starts_nothing(site: Site) -> None:
    browser = await site.browser(Role.OPERATOR)
    release = await newest_release(browser)
    shown = (await browser.get(f"/rollouts/new?release={release}&stages=50,100&sites=hall")).text
    assert "Stage 1 (50 %)" in shown
    assert '<td data-label="Site">hall</td>' in shown
    assert '<td data-label="Site">annex</td>' not in shown
    made = await browser.post("/rollouts/new", data=await asked(browser, stages="50,100", sites="hall"))
    assert made.status_code == 303, made.text
    item = await site.server.ok("GET", made.headers["location"])
    assert [stage["fraction"] for stage in item["plan"]["stages"]] == [0.5, 1.0]
    assert (item["sites"], item["phase"], item["started_at"]) == (["hall"], "draft", None)
    assert not item["wishes"].get("start")


async def test_a_plan_that_cannot_be_read_makes_nothing(site: Site) -> None:
    browser = await site.browser(Role.OPERATOR)
    before = await select(site.server, "select count(*) as n from rollout")
    release = await newest_release(browser)
    page = await browser.get(f"/rollouts/new?release={release}&stages=<b>")
    assert page.status_code == 200
    assert "&lt;b&gt;" in page.text
    assert "Make the rollout" not in page.text
    refused = await browser.post("/rollouts/new", data=await asked(browser, stages="<b>"))
    assert refused.status_code == 422
    assert (await browser.get("/rollouts/new?release=nothing")).status_code == 404
    assert await select(site.server, "select count(*) as n from rollout") == before


@pytest.mark.parametrize("role", [Role.VIEWER, Role.APPROVER, Role.PIPELINE])
async def test_only_operators_make_rollouts(site: Site, role: Role) -> None:
    browser = await site.browser(role)
    assert "Make the rollout" not in (await browser.get(f"/rollouts/new?release={await newest_release(browser)}")).text
    assert (await browser.post("/rollouts/new", data=await asked(browser))).status_code == 403


async def test_reviews_show_who_has_said_what_and_how_alike_ones_ended(site: Site) -> None:
    browser = await site.browser(Role.APPROVER)
    async with site.server.context.database.transaction() as session:
        await review.ask(session, "gate", "flip", "x/nominal/1", "Is <b>this</b> worse?", {}, needed=2)
    first = (await browser.get("/reviews")).text
    assert "Two-person rule: 2 different people" in first
    assert "Is &lt;b&gt;this&lt;/b&gt; worse?" in first
    [waiting] = await select(site.server, "select id from review where kind = 'flip' and state = 'open'")
    form = {
        "form_token": await form_token(browser),
        "answer": "reject",
        "reason": "it cuts corners",
        "back": "/reviews",
    }
    answered = await browser.post(f"/reviews/{waiting['id']}", data=form)
    assert (answered.status_code, answered.headers["location"]) == (303, "/reviews")
    async with site.server.context.database.transaction() as session:
        await review.ask(session, "gate", "flip", "x/nominal/2", "And this one?", {})
    assert "it cuts corners" in (await browser.get("/reviews?kind=flip")).text
    assert "it cuts corners" in (await browser.get("/reviews?state=rejected")).text
    assert (await browser.get("/reviews?state=odd")).status_code == 422


async def test_two_versions_are_compared_and_what_differs_is_told(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    one, two = site.made.versions[0].content_digest, site.made.versions[-1].content_digest
    page = (await browser.get(f"/compare?a={one}&b={two}")).text
    for words in ("What they are", "In simulation", "In simulation: nominal", "incident rate (95 %)", "when and where"):
        assert words in page, words
    assert re.search(r"[+-]\d+ %", page)
    assert (await browser.get("/compare")).status_code == 200
    assert (await browser.get("/compare?a=nothing")).status_code == 404


async def test_evidence_comes_as_data_too(site: Site) -> None:
    browser, gate = await site.browser(Role.VIEWER), site.made.gates[0].id
    path = (await browser.get(f"/gates/{gate}/path.json")).json()
    assert len(path["x"]) == len(path["lines"][0]["y"]) == 30
    assert path["x"] == sorted(path["x"])
    assert {line["name"] for line in path["lines"]} <= {"harm", "safe", "gain"}
    assert (await browser.get(f"/gates/{gate}/path.json?part=99")).status_code == 404
    series = (await browser.get(f"/rollouts/{site.made.rollouts[-1]}/evidence.json")).json()
    assert {line["name"] for line in series["lines"]} == {"harm", "safe"}


async def test_the_path_ends_where_the_gate_did(site: Site) -> None:
    browser, gate = await site.browser(Role.VIEWER), site.made.gates[0]
    path = (await browser.get(f"/gates/{gate.id}/path.json?part=0")).json()
    for line in path["lines"]:
        assert line["y"][-1] == pytest.approx(gate.parts[0].figures[f"{line['name']}_e"])


async def test_find_knows_pages_and_things(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    assert "/audit" in (await browser.get("/find?q=aud", headers={"HX-Request": "true"})).text
    assert f"/models/{MODEL}" in (await browser.get(f"/find?q={MODEL[:6]}")).text
    listed = (await site.server.ok("GET", "/devices?limit=1"))["items"][0]
    by_serial = (await browser.get("/find", params={"q": listed["serial"]})).text
    first = re.findall(r'<a href="(/[^"]*)"><b>', by_serial)[0]
    assert first == f"/fleet/{listed['id']}", "who types a whole serial means that device"
    assert f"/fleet?site={listed['site']}" in (await browser.get("/find", params={"q": listed["site"]})).text
    release = await newest_release(await site.browser(Role.OPERATOR))
    assert f"/releases/{release}" in (await browser.get("/find", params={"q": release[:10]})).text
    nothing = (await browser.get("/find?q=<img src=x>")).text
    assert "Nothing is called like that" in nothing
    assert "<img src=x" not in nothing


async def test_a_change_is_heard_by_whoever_looks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "LIFE_S", 60.0)
    heart = site.server.app.state.pulse
    stream = heart.stream()
    await anext(stream)
    await run(site.server, "update rollout set because = because")
    heard: list[Any] = []
    async with asyncio.timeout(10):
        while "rollout" not in " ".join(heard):
            heard.append((await anext(stream)).decode())


async def test_the_stream_is_for_those_who_have_logged_in(site: Site) -> None:
    transport = httpx.ASGITransport(site.server.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://fleetloop.test") as stranger:
        assert (await stranger.get("/live")).status_code == 303
    site.server.app.state.pulse.closing = True
    assert (await (await site.browser(Role.VIEWER)).get("/live")).status_code == 503


async def test_the_picture_of_events_counts_the_kind_that_is_chosen(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    every, stuck = (await browser.get("/events")).text, (await browser.get("/events?kind=stuck")).text
    assert re.search(r"<title>[^<]*: \d+ collision</title>|<title>[^<]*: \d+ near miss</title>", every)
    assert re.search(r"<title>[^<]*: \d+ stuck</title>", stuck)
    assert not re.search(r"<title>[^<]*: \d+ (?:collision|near miss|hard brake)</title>", stuck)
