"""The release page: it offers a statement, and takes the signature that was made elsewhere."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from control_plane.cli.app import app as fleetloop
from control_plane.kit.roles import Role
from control_plane.kit.signing import load_signer
from control_plane.registry.service import KeyPlan
from tests.support.registry import register, release
from tests.support.server import Server, open_server
from tests.support.tuf import make_home


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    ada = load_signer(tmp_path / "people", "ada").public_hex
    make_home(tmp_path / "home", KeyPlan(approvers={"ada": ada}))
    async with open_server(database_url, tmp_path / "home") as opened:
        yield opened


async def browser(server: Server, role: Role) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(server.app, raise_app_exceptions=False)
    made = httpx.AsyncClient(transport=transport, base_url="http://fleetloop.test")
    assert (await made.post("/login", data={"token": server.tokens[role]})).status_code == 303
    return made


async def test_a_statement_is_offered_signed_elsewhere_and_handed_in(server: Server, tmp_path: Path) -> None:
    digest = (await release(server, (await register(server))["content_digest"]))["digest"]
    page = await browser(server, Role.APPROVER)
    shown = (await page.get(f"/releases/{digest}")).text
    assert "Nobody yet" in shown
    offered = await page.get(f"/releases/{digest}/statement.json", params={"approver": "ada", "reason": "seen"})
    (tmp_path / "statement.json").write_bytes(offered.content)
    key = tmp_path / "people" / "ada.pem"
    signed = CliRunner().invoke(fleetloop, ["sign", str(tmp_path / "statement.json"), "--key", str(key)])
    assert signed.exit_code == 0, signed.output
    assert '"releaseDigest"' in signed.stderr, "what is signed is shown"
    token = (re.findall(r'name="form_token" value="([0-9a-f]{64})"', shown) or [""])[0]
    form = {"form_token": token, "envelope": signed.stdout}
    handed = await page.post(f"/releases/{digest}/signature", data=form)
    assert handed.status_code == 303, handed.text
    assert "ada" in (await page.get(f"/releases/{digest}")).text
    await page.aclose()


async def test_what_cannot_be_offered_or_taken_says_why(server: Server) -> None:
    digest = (await release(server, (await register(server))["content_digest"]))["digest"]
    page = await browser(server, Role.APPROVER)
    nameless = await page.get(f"/releases/{digest}/statement.json")
    assert nameless.status_code == 422
    assert "who approves" in nameless.text
    shown = (await page.get(f"/releases/{digest}")).text
    token = re.findall(r'name="form_token" value="([0-9a-f]{64})"', shown)[0]
    junk = await page.post(f"/releases/{digest}/signature", data={"form_token": token, "envelope": "{}<script>"})
    assert junk.status_code == 422
    assert "<script>" not in junk.text
    assert (await page.get("/releases/" + "0" * 64)).status_code == 404
    await page.aclose()
    viewer = await browser(server, Role.VIEWER)
    assert "Sign for it" not in (await viewer.get(f"/releases/{digest}")).text
    await viewer.aclose()


def test_only_approvals_are_signed_and_only_with_a_key_of_ones_own(tmp_path: Path) -> None:
    run = CliRunner()
    made = run.invoke(fleetloop, ["approver-key", "--key", str(tmp_path / "ada.pem")])
    assert re.fullmatch(r"[0-9a-f]{64}\n", made.stdout)
    assert run.invoke(fleetloop, ["approver-key", "--key", str(tmp_path / "ada.pem")]).stdout == made.stdout
    (tmp_path / "no.json").write_text('{"_type": "https://in-toto.io/Statement/v1"}')
    refused = run.invoke(fleetloop, ["sign", str(tmp_path / "no.json"), "--key", str(tmp_path / "ada.pem")])
    assert refused.exit_code == 2
    assert "not_a_statement" in refused.stderr
