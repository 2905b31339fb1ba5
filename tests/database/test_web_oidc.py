"""Sign-in with a provider: a real one on loopback, right, and wrong in every way that matters."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from control_plane.access.domain import read_role_map, role_of
from control_plane.access.service import ProviderSettings
from control_plane.kit.errors import Invalid
from control_plane.kit.roles import Role
from control_plane.kit.settings import Settings
from control_plane.web.session import COOKIE, NOTE
from tests.support.browsing import browser, form_token, signed_in
from tests.support.provider import CLIENT, SECRET, OpenIdProvider, other_key, providing, shared_secret
from tests.support.server import Server, open_server


@dataclass
class Site:
    server: Server
    provider: OpenIdProvider

    async def enter(self, person: httpx.AsyncClient, **changed: str) -> httpx.Response:
        began = await person.get("/login/oidc?next=/rollouts")
        assert began.status_code == 303, began.text
        self.provider.redeemed = 0
        said = self.provider.authorize(began.headers["location"]) | changed
        return await person.get("/login/oidc/back", params={name: value for name, value in said.items() if value})


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with providing() as provider:
        settings: dict[str, Any] = {
            "oidc_issuer": provider.issuer,
            "oidc_client_id": CLIENT,
            "oidc_client_secret": SecretStr(SECRET),
            "oidc_roles": "robot-ops=operator, robot-admins=admin",
        }
        async with open_server(database_url, tmp_path, **settings) as server:
            yield Site(server, provider)


async def test_somebody_whom_the_provider_vouches_for_comes_in(site: Site) -> None:
    person = browser(site.server)
    assert "Sign in with your organisation" in (await person.get("/login")).text
    answer = await site.enter(person)
    assert (answer.status_code, answer.headers["location"]) == (303, "/rollouts"), answer.text
    assert NOTE not in person.cookies
    profile = (await person.get("/settings")).text
    assert "ada@example.com" in profile
    assert "operator" in profile
    assert site.provider.asked["redirect_uri"] == "http://fleetloop.test/login/oidc/back"
    site.provider.groups = ["robot-admins", "robot-ops"]
    again = browser(site.server)
    await site.enter(again)
    assert "admin" in (await again.get("/settings")).text
    assert (await person.get("/settings")).status_code == 303, "another role ends the sessions of the old one"


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": ["another-client", "third"], "azp": CLIENT},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"aud": None},
        {"iss": "https://evil.test"},
        {"iss": None},
        {"exp": int(time.time()) - 3600},
        {"exp": None},
        {"iat": None},
        {"iat": int(time.time()) + 3600},
        {"nbf": int(time.time()) + 3600},
        {"sub": None},
        {"sub": "x" * 400},
        {"email_verified": False},
        {"email_verified": None},
        {"email": None},
        {"email": "<script>"},
        {"email": "test-admin"},
        {"groups": None},
        {"groups": ["everybody"]},
        {"groups": {"robot-admins": True}},
    ],
    ids="-".join,
)
async def test_claims_that_do_not_hold_let_nobody_in(site: Site, wrong: dict[str, Any]) -> None:
    site.provider.wrong = wrong
    person = browser(site.server)
    answer = await site.enter(person)
    assert answer.status_code == 403, answer.text
    assert COOKIE not in person.cookies
    assert "Sign in" in answer.text


async def test_signatures_that_do_not_hold_let_nobody_in(site: Site) -> None:
    site.provider.signer = other_key()
    assert (await site.enter(browser(site.server))).status_code == 403
    site.provider.signer, site.provider.algorithm = shared_secret(), "HS256"
    assert (await site.enter(browser(site.server))).status_code == 403
    site.provider.signer, site.provider.algorithm = None, "none"
    assert (await site.enter(browser(site.server))).status_code in (403, 503)
    site.provider.algorithm = "RS256"
    assert (await site.enter(browser(site.server))).status_code == 303


async def test_what_the_browser_brings_back_must_be_what_it_went_with(site: Site) -> None:
    for changed in (
        {"state": "forged"},
        {"state": ""},
        {"code": ""},
        {"code": "guessed"},
        {"iss": "https://evil.test"},
    ):
        person = browser(site.server)
        answer = await site.enter(person, **changed)
        assert answer.status_code == 403, changed
        assert COOKIE not in person.cookies
    denied = await site.enter(browser(site.server), code="", error="access_denied")
    assert denied.status_code == 403
    victim = browser(site.server)
    assert (await victim.get("/login/oidc/back", params={"code": "the-code", "state": "x"})).status_code == 403
    began = await victim.get("/login/oidc")
    said = site.provider.authorize(began.headers["location"])
    site.provider.redeemed = 0
    assert (await victim.get("/login/oidc/back", params=said)).status_code == 303
    assert (await victim.get("/login/oidc/back", params=said)).status_code == 403, "what was used is used up"


async def test_a_provider_that_is_another_or_away(site: Site) -> None:
    site.provider.issuer_says = "https://evil.test"
    assert (await browser(site.server).get("/login/oidc")).status_code == 403


async def test_a_person_who_is_shut_out_stays_out(site: Site) -> None:
    await site.enter(browser(site.server))
    admin = await signed_in(site.server, Role.ADMIN)
    form = {"form_token": await form_token(admin), "reason": "has left", "active": "no"}
    assert (await admin.post("/settings/people/ada@example.com", data=form)).status_code == 303
    assert (await site.enter(browser(site.server))).status_code == 403
    form |= {"active": "yes", "role": "admin"}
    assert (await admin.post("/settings/people/ada@example.com", data=form)).status_code == 409
    no = await browser(site.server).post(
        "/login", data={"name": "ada@example.com", "password": "a horse and a battery"}
    )
    assert no.status_code == 401


async def test_without_a_provider_there_is_no_such_door(server: Server) -> None:
    for path in ("/login/oidc", "/login/oidc/back"):
        assert (await server.http.get(path)).status_code == 404
    assert "organisation" not in (await server.http.get("/login")).text


def test_settings_and_roles_that_do_not_fit_are_said() -> None:
    good = {"oidc_issuer": "https://id.example", "oidc_client_id": "a", "oidc_client_secret": SecretStr("b")}
    assert ProviderSettings.read(Settings()) is None
    assert ProviderSettings.read(Settings(**good)) is not None  # type: ignore[arg-type]
    for wrong in (
        {"oidc_issuer": "http://id.example"},
        {"oidc_client_id": None},
        {"oidc_roles": "x"},
        {"oidc_roles": "a=b"},
    ):
        with pytest.raises(Invalid):
            ProviderSettings.read(Settings(**(good | wrong)))  # type: ignore[arg-type]
    roles = read_role_map("a=viewer,b=admin, c = operator")
    assert role_of({"g": ["a", "c"]}, "g", roles) is Role.OPERATOR
    assert role_of({"g": "b"}, "g", roles) is Role.ADMIN
    assert role_of({"g": [1, None, "z"]}, "g", roles) is None
    assert role_of({}, "g", roles) is None
