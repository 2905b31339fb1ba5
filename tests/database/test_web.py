"""The pages over the real application: every page, empty and seeded; roles, forms, escaping, failures."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from control_plane.access.service import attempts
from control_plane.kit.auth import revoke_token
from control_plane.kit.roles import Role
from control_plane.review import service as review
from control_plane.rollout import service as rollout
from control_plane.rollout.schemas import RolloutItem
from control_plane.web.session import COOKIE
from tests.browser.seed import EVIL, MODEL, Seeded, seed
from tests.support.server import Server, open_server

PAGES = ("/", "/fleet", "/events", "/runs", "/evaluations", "/rollouts", "/models", "/audit", "/ledger")
FORM_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


@dataclass
class Site:
    server: Server
    made: Seeded

    async def browser(self, role: Role) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.server.app, raise_app_exceptions=False)
        browser = httpx.AsyncClient(transport=transport, base_url="http://fleetloop.test")
        answer = await browser.post("/login", data={"token": self.server.tokens[role]})
        assert answer.status_code == 303
        return browser


@asynccontextmanager
async def open_site(database_url: str, home: Path, *, seeded: bool) -> AsyncIterator[Site]:
    async with open_server(database_url, home) as server:
        made = await seed(server.context, devices=6, history=2, canary=3) if seeded else Seeded()
        yield Site(server, made)


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(database_url, tmp_path, seeded=True) as made:
        yield made


@pytest.fixture
async def empty(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(database_url, tmp_path, seeded=False) as made:
        yield made


async def form_token(browser: httpx.AsyncClient) -> str:
    found = FORM_TOKEN.search((await browser.get("/")).text)
    assert found
    return found[1]


async def test_every_page_of_an_empty_installation_says_what_to_do_next(empty: Site) -> None:
    browser = await empty.browser(Role.VIEWER)
    for path in PAGES:
        answer = await browser.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert path == "/audit" or 'class="empty"' in answer.text, path
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


async def test_every_page_of_a_seeded_installation_is_there_and_escapes(site: Site) -> None:
    browser, made = await site.browser(Role.ADMIN), site.made
    paths = [*PAGES, f"/models/{MODEL}", "/events/1", "/fleet?site=hall", "/events?kind=stuck", "/audit?subject=seed"]
    paths += [f"/fleet/{made.robots[0].who.id}", f"/recordings/{made.recordings[0]}"]
    paths += [f"/runs/{run}" for run in made.runs] + [f"/rollouts/{item}" for item in made.rollouts]
    paths += [f"/gates/{gate.id}" for gate in made.gates]
    paths += [f"/versions/{version.content_digest}" for version in made.versions]
    seen = ""
    for path in paths:
        answer = await browser.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert "<script>alert" not in answer.text, path
        assert "<img src=x" not in answer.text, path
        assert not re.search(r"<[^>]* (style|on\w+)=", answer.text), path
        seen += answer.text
    assert "&lt;script&gt;alert" in seen
    for words in (
        "the field is a simulation",
        "+",
        "chain intact",
        "attempt 2",
        "out of memory",
        "129 of 300 scenarios",
        "fleetloop gate replay",
        "looks at",
        "Driven and not simulated",
        "site:hall and floor:dry: 0 scenarios",
        "from 3 on predictions are judged",
    ):
        assert words in seen, words


async def test_the_overview_shows_the_loop(site: Site) -> None:
    page = (await (await site.browser(Role.VIEWER)).get("/")).text
    for station in ("Field", "Data", "Training", "Simulation", "Evidence", "Release"):
        assert f">{station}</text>" in page
    item = await _rollout(site, site.made.rollouts[-1])
    assert str(item.because)[:40] in page
    assert "Incidents per km by version" in page


async def _rollout(site: Site, rollout_id: str) -> RolloutItem:
    async with site.server.context.database.transaction() as session:
        return await rollout.get(session, rollout_id)


async def test_a_person_approves_and_halts_with_a_reason(site: Site) -> None:
    browser, live = await site.browser(Role.ADMIN), site.made.rollouts[-1]
    token = await form_token(browser)
    answer = {"form_token": token, "answer": "approve", "reason": "looked at the flips", "back": "/"}
    assert (await browser.post(f"/reviews/{site.made.review}", data=answer)).status_code == 303
    async with site.server.context.database.transaction() as session:
        given = (await review.get(session, site.made.review)).answers
    assert [(a.actor, a.approves, a.reason) for a in given] == [("test-admin", True, "looked at the flips")]
    assert (await browser.post(f"/reviews/{site.made.review}", data=answer)).status_code == 409
    for action, wish in (("pause", ("pause", True)), ("resume", ("pause", False)), ("halt", ("halt", True))):
        body = {"form_token": token, "action": action, "reason": "a drill"}
        assert (await browser.post(f"/rollouts/{live}/wishes", data=body)).status_code == 303
        assert (await _rollout(site, live)).wishes[wish[0]] is wish[1]


async def test_proceed_names_the_stage_and_needs_a_reason(site: Site) -> None:
    browser, live = await site.browser(Role.OPERATOR), site.made.rollouts[-1]
    body = {"form_token": await form_token(browser), "action": "proceed", "reason": "   "}
    refused = await browser.post(f"/rollouts/{live}/wishes", data=body)
    assert refused.status_code == 422
    assert "say why" in refused.text.lower()
    assert (await browser.post(f"/rollouts/{live}/wishes", data=body | {"reason": "seen enough"})).status_code == 303
    assert (await _rollout(site, live)).wishes["proceed_past"] == 0
    assert (await browser.post(f"/rollouts/{live}/wishes", data=body | {"action": "explode"})).status_code == 422


@pytest.mark.parametrize(
    ("role", "approves", "wishes"),
    [
        (Role.VIEWER, False, False),
        (Role.OPERATOR, False, True),
        (Role.APPROVER, True, False),
        (Role.PIPELINE, False, False),
    ],
)
async def test_people_see_only_the_buttons_they_may_use(site: Site, role: Role, approves: bool, wishes: bool) -> None:
    browser, live = await site.browser(role), site.made.rollouts[-1]
    assert ('value="approve"' in (await browser.get("/")).text) is approves
    assert ("/wishes" in (await browser.get(f"/rollouts/{live}")).text) is wishes
    token = await form_token(browser)
    answer = {"form_token": token, "answer": "reject", "reason": "no"}
    wish = {"form_token": token, "action": "pause", "reason": "no"}
    assert ((await browser.post(f"/reviews/{site.made.review}", data=answer)).status_code == 303) is approves
    refused = await browser.post(f"/rollouts/{live}/wishes", data=wish)
    assert refused.status_code == (303 if wishes else 403)


async def test_forms_of_others_are_refused(site: Site) -> None:
    browser, live = await site.browser(Role.ADMIN), site.made.rollouts[-1]
    other = await form_token(await site.browser(Role.ADMIN))
    wish = {"action": "halt", "reason": "forged"}
    for forged in ({}, {"form_token": "0" * 64}, {"form_token": other}):
        assert (await browser.post(f"/rollouts/{live}/wishes", data=wish | forged)).status_code == 403
    good = wish | {"form_token": await form_token(browser)}
    crossed = await browser.post(f"/rollouts/{live}/wishes", data=good, headers={"Sec-Fetch-Site": "cross-site"})
    assert crossed.status_code == 403
    large = good | {"reason": "x" * 40_000}
    assert (await browser.post(f"/rollouts/{live}/wishes", data=large)).status_code == 413
    assert (await _rollout(site, live)).wishes["halt"] is False


async def test_login(empty: Site) -> None:
    http = empty.server.http
    away = await http.get("/rollouts")
    assert (away.status_code, away.headers["location"]) == (303, "/login?next=/rollouts")
    wrong = await http.post("/login", data={"token": "fl_wrong"})
    assert wrong.status_code == 401
    assert "unknown or revoked" in wrong.text
    assert COOKIE not in wrong.cookies
    body = {"token": empty.server.tokens[Role.VIEWER], "next": "/rollouts"}
    right = await http.post("/login", data=body)
    assert (right.status_code, right.headers["location"]) == (303, "/rollouts")
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert empty.server.tokens[Role.VIEWER].lower() not in cookie


@pytest.mark.parametrize("way", ["//evil.test", "https://evil.test", "/\\evil.test", "evil", "/a\nb"])
async def test_login_leads_nowhere_else(empty: Site, way: str) -> None:
    body = {"token": empty.server.tokens[Role.VIEWER], "next": way}
    assert (await empty.server.http.post("/login", data=body)).headers["location"] == "/"


async def test_failed_logins_must_wait(empty: Site) -> None:
    http = empty.server.http
    answers = [(await http.post("/login", data={"token": f"x{i}"})).status_code for i in range(attempts.MOST + 2)]
    assert answers == [401] * attempts.MOST + [429] * 2
    assert (await http.post("/login", data={"token": empty.server.tokens[Role.VIEWER]})).status_code == 429


async def test_a_session_ends_with_its_token_with_time_and_by_logging_out(empty: Site) -> None:
    browser = await empty.browser(Role.VIEWER)
    token = await form_token(browser)
    async with empty.server.context.database.transaction() as session:
        await revoke_token(session, "test-viewer")
    assert (await browser.get("/")).status_code == 303
    browser = await empty.browser(Role.ADMIN)
    assert (await browser.post("/logout", data={"form_token": token})).status_code == 403
    assert (await browser.post("/logout", data={"form_token": await form_token(browser)})).status_code == 303
    assert (await browser.get("/")).status_code == 303


async def test_failures_look_like_pages_for_people_and_problems_for_programs(empty: Site) -> None:
    browser = await empty.browser(Role.VIEWER)
    for path in (
        "/nowhere",
        "/fleet/dev_nobody",
        f"/versions/{'0' * 64}",
        "/gates/gate_none",
        "/models/none",
        "/runs/run_none",
        "/rollouts/roll_none",
        f"/recordings/{'1' * 64}",
        "/events/999999",
    ):
        answer = await browser.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"].startswith("text/html"), path
        assert "Not here" in answer.text
    for path in ("/events/nan", "/fleet?after=%25%25", "/events?after=e30"):
        assert (await browser.get(path)).status_code == 422, path
    for path in ("/api/v1/nowhere", "/device/v1/nowhere"):
        answer = await browser.get(path)
        assert answer.status_code in (401, 404)
        assert answer.headers["content-type"] == "application/problem+json", path
    assert (await browser.get("/static/../render.py")).status_code == 404
    assert (await browser.get("/static/live.js")).headers["content-type"].startswith("text/javascript")
    assert (await browser.get("/healthz")).json() == {"status": "ok"}


async def test_a_failure_leads_back_to_a_page_of_ours_only(empty: Site) -> None:
    browser = await empty.browser(Role.VIEWER)

    async def led(referer: str) -> str | None:
        answer = await browser.get("/fleet?sort=zzz", headers={"referer": referer})
        found = re.search(r'<a href="([^"]*)">Back to where you were', answer.text)
        return found[1] if found else None

    host = f"{browser.base_url.scheme}://{browser.base_url.netloc.decode()}"
    assert await led(f"{host}/fleet?site=hall") == "/fleet?site=hall"
    for strange in ("", "https://evil.example/fleet", f"{host}//evil.example/", f"{host}/fleet?sort=zzz",
                    "javascript:alert(1)", f"{host}.evil.example/fleet"):  # fmt: skip
        assert await led(strange) is None, strange
    hostile = await led(f'{host}/fleet?q="><script>alert(1)</script>')
    assert hostile is not None
    assert "<script>" not in hostile


async def test_an_unknown_failure_tells_nothing_of_the_inside(empty: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr("control_plane.pipelines.service.list_pipelines", broken)
    answer = await (await empty.browser(Role.VIEWER)).get("/runs")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Something went wrong" in answer.text


def test_the_evil_string_is_evil() -> None:
    assert "<script>" in EVIL
