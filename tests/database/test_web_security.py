"""What every page must withstand, asked of every route that the application's own router lists."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from control_plane.kit.roles import Role
from control_plane.web.pages.doors import local
from control_plane.web.session import COOKIE, cookie_name, is_ours, is_secure
from tests.support.browsing import FORM_TOKEN, browser, form_token, signed_in
from tests.support.permissions import PUBLIC
from tests.support.routes import Way, ways
from tests.support.server import BASE, Server, open_server

STRICT = ("default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'")


def pages_of(server: Server) -> list[Way]:
    return [way for way in ways(server.app) if way.is_page]


def _check_headers(answer: httpx.Response, name: str) -> None:
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy, name
    assert "frame-ancestors 'none'" in policy, name
    assert answer.headers["x-frame-options"] == "DENY", name
    assert answer.headers["x-content-type-options"] == "nosniff", name
    assert answer.headers["cross-origin-opener-policy"] == "same-origin", name
    assert answer.headers["cross-origin-resource-policy"] == "same-origin", name
    if answer.headers.get("content-type", "").startswith("text/html"):
        assert all(part in policy for part in STRICT), name
        assert answer.headers["cache-control"] == "no-store", name


async def test_every_answer_forbids_frames_foreign_scripts_and_guessing(server: Server) -> None:
    person = await signed_in(server, Role.ADMIN)
    for who in (person, browser(server)):
        for way in ways(server.app):
            if way.path.startswith(("/device/", "/objects/")):
                continue
            answer = await who.request(way.method, way.filled({}))
            _check_headers(answer, way.name)
    for path in ("/nowhere", "/static/nothing.js", "/static/style.css", "/%00", "/api/v1/none", "//evil.test"):
        _check_headers(await person.get(path), path)
    _check_headers(await person.request("DELETE", "/rollouts"), "DELETE")


async def test_every_form_is_refused_without_its_session_s_token(server: Server) -> None:
    person, other = await signed_in(server, Role.ADMIN), await signed_in(server, Role.ADMIN)
    stolen = await form_token(other)
    for way in pages_of(server):
        if way.method == "GET" or way.name in PUBLIC:
            continue
        for token in ({}, {"form_token": ""}, {"form_token": "0" * 64}, {"form_token": stolen}, {"form_token": "é"}):
            answer = await person.post(way.filled({}), data={"reason": "forged"} | token)
            assert answer.status_code == 403, (way.name, token)
            assert "open the page again" in answer.text, way.name


FOREIGN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.test"},
    {"Origin": "null"},
    {"Origin": BASE + ".evil.test"},
    {"Origin": "http://fleetloop.test:81"},
    {"Origin": BASE, "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.test", "Sec-Fetch-Site": "same-origin"},
]


async def test_every_form_is_refused_from_another_site_even_with_its_token(server: Server) -> None:
    person = await signed_in(server, Role.ADMIN)
    token = await form_token(person)
    for way in pages_of(server):
        for headers in FOREIGN if way.method == "POST" else ():
            body = {"form_token": token, "reason": "x", "token": server.tokens[Role.ADMIN]}
            answer = await person.post(way.filled({}), data=body, headers=headers)
            assert answer.status_code == 403, (way.name, headers)
            assert "another site" in answer.text, way.name
    assert (await person.get("/ledger")).status_code == 200
    assert (await person.post("/logout", data={"form_token": token}, headers={"Origin": BASE})).status_code == 303


async def test_no_page_changes_anything_when_it_is_only_looked_at(server: Server) -> None:
    """Forms carry tokens; so whatever a GET answers must be only an answer: no page sends one to a door of deeds."""
    person = await signed_in(server, Role.ADMIN)
    for way in pages_of(server):
        if way.method == "POST" and way.path not in {other.path for other in pages_of(server) if other.method == "GET"}:
            assert (await person.get(way.filled({}))).status_code in (404, 405, 422), way.name


ELSEWHERE = [
    "//evil.test",
    "///evil.test",
    "////evil.test",
    "https://evil.test",
    "http:evil.test",
    "/\\evil.test",
    "\\/evil.test",
    "/\t/evil.test",
    "/\n/evil.test",
    "/\r\n/evil.test",
    "\t//evil.test",
    " //evil.test",
    "/ /evil.test",
    "/\u2028/evil.test",
    "/\u00a0/evil.test",
    "/\u200b/evil.test",
    "/\x00/evil.test",
    "javascript:alert(1)",
    "data:text/html,x",
    "evil.test",
    "@evil.test",
    "?next=//evil.test",
    "",
    "/" + "a" * 5000,
]


@pytest.mark.parametrize("way", ELSEWHERE)
def test_nobody_is_led_elsewhere(way: str) -> None:
    assert local(way) == "/"


async def test_the_door_leads_only_inside(server: Server) -> None:
    for way in (*ELSEWHERE, "/%2f/evil.test", "/%5cevil.test", "/.//evil.test", "/..//evil.test"):
        answer = await browser(server).post("/login", data={"token": server.tokens[Role.VIEWER], "next": way})
        to = httpx.URL(BASE).join(answer.headers["location"])
        assert (to.host, to.scheme) == ("fleetloop.test", "http"), way
    for way in ("/rollouts", "/audit?subject=a%20b&verb=token", "/models/é"):
        assert local(way) == way


async def test_a_session_is_new_at_each_sign_in_and_over_at_its_end(server: Server) -> None:
    person = browser(server)
    person.cookies.set(COOKIE, "chosen-by-an-attacker", domain="fleetloop.test", path="/")
    await person.post("/login", data={"token": server.tokens[Role.VIEWER]})
    first = person.cookies[COOKIE]
    assert first != "chosen-by-an-attacker"
    await person.post("/login", data={"token": server.tokens[Role.OPERATOR]})
    assert person.cookies[COOKIE] != first
    for dead in ("chosen-by-an-attacker", first):
        old = browser(server)
        old.cookies.set(COOKIE, dead)
        assert (await old.get("/ledger")).status_code == 303, "a session from before lives on"
    kept = person.cookies[COOKIE]
    await person.post("/logout", data={"form_token": await form_token(person)})
    thief = browser(server)
    thief.cookies.set(COOKIE, kept)
    assert (await thief.get("/ledger")).status_code == 303, "signing out must end it on the server's side"


@pytest.fixture
async def tls(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with open_server(database_url, tmp_path) as opened:
        yield opened


async def test_by_tls_the_cookie_is_bound_to_host_and_tls(tls: Server) -> None:
    transport = httpx.ASGITransport(tls.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://fleetloop.test") as person:
        cookie = (await person.post("/login", data={"token": tls.tokens[Role.VIEWER]})).headers["set-cookie"]
        assert cookie.startswith(f"__Host-{COOKIE}=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
        assert (await person.get("/ledger")).status_code == 200
        person.cookies.clear()
        person.cookies.set(COOKIE, cookie.split(";")[0].split("=", 1)[1])
        assert (await person.get("/ledger")).status_code == 303, "a cookie that a neighbour can plant is not read"


def test_what_counts_as_ours() -> None:
    assert is_secure("http", "Fleet.example", "https://fleet.example")
    assert not is_secure("http", "127.0.0.1:8080", "https://fleet.example")
    assert cookie_name("a", secure=False) == "a"
    assert is_ours("https://fleet.example", "same-origin", "inner:8080", "https://fleet.example")
    assert is_ours(None, None, "fleet.example", "")
    assert not is_ours("ftp://fleet.example", None, "fleet.example", "")
    assert not is_ours("https://fleet.example@evil.test", None, "fleet.example", "")


LONG = "x" * 3000
ODD = (
    "%00",
    "%ff%fe",
    "..%2f..%2fetc%2fpasswd",
    "'%20or%201=1--",
    "%F0%9F%A4%96",
    "-1",
    "9" * 40,
    "{{7*7}}",
    LONG,
    "%0d%0aX-Evil:%201",
)
QUERIES = (
    "after=%00",
    "after=" + "A" * 4000,
    "after=W251bGxd",
    "after=WzFlOTk5XQ",
    "after=Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5XQ",
    "after=WyJcdTAwMDAiXQ",
    "limit=-1&page=nan",
    "subject=%00&verb=%00&actor=%00&text=%00&since=%00&until=%00&kind=%00&site=%00&device_class=%00&state=%00",
    "subject=%ff&text=%25%5f&since=9999-99-99&until=x&kind=%ff&site=%ff&q=%ff",
    "&".join(f"{name}={LONG}" for name in ("subject", "text", "actor", "verb", "since", "kind", "site", "next", "q")),
    "&".join(f"a{i}=1" for i in range(2000)),
)


async def test_odd_and_overlong_parameters_are_refused_in_the_look_of_the_pages(server: Server) -> None:
    person = await signed_in(server, Role.ADMIN)
    for way in pages_of(server):
        if way.method != "GET":
            continue
        for url in [way.filled({}, odd) for odd in ODD if "{" in way.path] + [f"{way.filled({})}?{q}" for q in QUERIES]:
            answer = await person.get(url)
            assert answer.status_code < 500, (url[:200], answer.text[-600:])
            assert "x-evil" not in answer.headers, url
            assert answer.headers["content-type"].startswith("text/html") or answer.status_code == 200, url[:200]


async def test_odd_forms_are_refused_and_break_nothing(server: Server) -> None:
    person = await signed_in(server, Role.ADMIN)
    token = await form_token(person)
    fields = ("reason", "name", "role", "url", "topics", "answer", "action", "back", "password", "old", "new", "active")
    for way in pages_of(server):
        if way.method != "POST" or way.path == "/logout":
            continue
        for value in ("\x00", "\ud7ff\ufffe", LONG, "x" * 30_000, "-1", "<b>", "%s%n", "'"):
            answer = await person.post(way.filled({}), data=dict.fromkeys(fields, value) | {"form_token": token})
            assert answer.status_code < 500, (way.name, value[:20], answer.text[-600:])
        for body in (b"\xff\xfe", b"a" * 20_000, b"&".join(b"f%d=1" % i for i in range(500)), b"=&=&=", b""):
            answer = await person.post(way.filled({}), content=body)
            assert 400 <= answer.status_code < 500, (way.name, body[:20])


async def test_methods_that_a_page_does_not_know_are_refused(server: Server) -> None:
    person = await signed_in(server, Role.ADMIN)
    known = {
        way.path: {other.method for other in pages_of(server) if other.path == way.path} for way in pages_of(server)
    }
    for path, methods in known.items():
        for method in {"PUT", "PATCH", "DELETE", "POST"} - methods:
            answer = await person.request(method, re.sub(r"\{[^}]*\}", "nobody", path))
            assert answer.status_code in (303, 403, 404, 405), (method, path)


async def test_a_page_never_shows_the_token_it_came_with(server: Server) -> None:
    person = await signed_in(server, Role.ADMIN)
    for way in pages_of(server):
        if way.method == "GET" and "{" not in way.path:
            text = (await person.get(way.path)).text
            assert server.tokens[Role.ADMIN] not in text, way.path
            assert person.cookies[COOKIE] not in text, way.path
            assert len(set(FORM_TOKEN.findall(text))) <= 1, way.path
