"""Webhooks by API, client and command line: what the settings page can do, for admins, over a real receiver."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import main
from control_plane.client import ClientError
from control_plane.kit.db import rows
from control_plane.kit.roles import Role
from control_plane.webhooks import service
from control_plane.webhooks.api import api
from control_plane.webhooks.domain import Topic
from control_plane.webhooks.reconcile import Deliverer
from control_plane.webhooks.schemas import WebhookCreate, WebhookPatch, WebhookWhy
from tests.database.test_webhooks import receiving
from tests.support.cli import Ended, fleetloop
from tests.support.live import Live, serve


@pytest.fixture
async def live(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    if api not in main.ROUTERS:
        monkeypatch.setattr(main, "ROUTERS", (*main.ROUTERS, api))
    async with serve(database_url, tmp_path, webhook_http=True) as found:
        yield found


def named(url: str, *topics: str, name: str = "pager", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": url, "topics": list(topics) or ["run.failed"], "reason": "nights"} | more


async def test_from_making_one_to_deleting_it(live: Live) -> None:
    server = live.server
    async with receiving() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/hook"
        made = await server.ok("POST", "/webhooks", json=named(url))
        assert made["secret"].startswith("whsec_")
        hook = made["webhook"]
        assert (hook["name"], hook["url"], hook["topics"], hook["active"]) == ("pager", url, ["run.failed"], True)
        path = f"/webhooks/{hook['id']}"
        assert await server.ok("GET", "/webhooks") == [hook] == [await server.ok("GET", path)]
        sent = await server.ok("POST", f"{path}/test")
        assert (sent["topic"], sent["state"], sent["attempts"]) == ("test", "waiting", 0)
        await Deliverer(server.context).tick()
        assert json.loads(receiver.bodies[0])["id"] == sent["id"]
        [delivery] = await server.ok("GET", f"{path}/deliveries")
        assert (delivery["id"], delivery["state"], delivery["status"]) == (sent["id"], "delivered", 200)
        again = await server.ok("POST", f"{path}/secret", json={"reason": "it was in a chat"})
        assert again["secret"] not in (made["secret"], "")
        body = receiver.bodies[0]
        at = int(receiver.header("Fleetloop-Signature").split("t=")[1].split(",")[0])
        assert service.verify(made["secret"], receiver.header("Fleetloop-Signature"), body, at)
    changed = await server.ok("PATCH", path, json={"topics": ["trust.alarm"], "active": False, "reason": "holidays"})
    assert (changed["topics"], changed["active"], changed["url"]) == (["trust.alarm"], False, url)
    assert changed["because"] == "disabled by test-admin: holidays"
    assert (await server.call("POST", f"{path}/test")).status_code == 409
    assert (await server.ok("PATCH", path, json={"active": True, "reason": "back"}))["because"] == ""
    gone = await server.ok("DELETE", f"{path}?reason=done")
    assert gone["id"] == hook["id"]
    for method, way in (("GET", ""), ("DELETE", ""), ("POST", "/test"), ("GET", "/deliveries")):
        assert (await server.call(method, path + way)).status_code == 404, (method, way)
    entries = (await server.ok("GET", "/audit"))["items"]
    assert {"webhook.create", "webhook.change", "webhook.secret", "webhook.remove"} <= {e["action"] for e in entries}
    assert url not in json.dumps(entries)


async def test_only_admins_and_never_the_secret_again(live: Live) -> None:
    server = live.server
    made = await server.ok("POST", "/webhooks", json=named("https://pager.example/x"), headers={"Idempotency-Key": "k"})
    path = f"/webhooks/{made['webhook']['id']}"
    for role in set(Role) - {Role.ADMIN}:
        for method, way in (("GET", "/webhooks"), ("POST", "/webhooks"), ("GET", path), ("DELETE", path)):
            answer = await server.call(method, way, role, json=named("https://pager.example/y"))
            assert answer.status_code == 403, (role, method, way)
    told = json.dumps([await server.ok("GET", "/webhooks"), await server.ok("GET", path)])
    assert made["secret"] not in told
    async with server.context.database.transaction() as session:
        assert await rows(session, "select 1 from kit_idempotency") == []  # it would hold the secret


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (named("http://169.254.169.254/latest"), 422, None),
        (named("http://user:word@127.0.0.1/"), 422, "webhook_outside"),
        (named("ftp://pager.example/"), 422, "webhook_outside"),
        (named("https://pager.example/" + "x" * 500), 422, None),
        (named("https://pager.example/", "no.such"), 422, None),
        (named("https://pager.example/", name="<b>"), 422, None),
        (named("https://pager.example/") | {"topics": []}, 422, None),
        (named("https://pager.example/", reason="x" * 501), 422, None),
    ],
)
async def test_what_makes_no_sense_is_refused(live: Live, body: dict[str, Any], status: int, code: str | None) -> None:
    if "169.254" in body["url"]:
        # Plain HTTP is for this machine itself: whether it is, is judged by the address when something is sent.
        made = await live.server.ok("POST", "/webhooks", json=body)
        await live.server.ok("POST", f"/webhooks/{made['webhook']['id']}/test")
        await Deliverer(live.server.context).tick()
        [delivery] = await live.server.ok("GET", f"/webhooks/{made['webhook']['id']}/deliveries")
        assert delivery["status"] is None
        assert "not on the public internet" in delivery["note"]
        return
    answer = await live.server.call("POST", "/webhooks", json=body)
    assert answer.status_code == status
    if code is not None:
        assert answer.json()["code"] == code
    assert await live.server.ok("GET", "/webhooks") == []


async def test_the_client_has_every_call(live: Live) -> None:
    def go() -> None:
        with live.client() as client:
            made = client.create_webhook(
                WebhookCreate(name="pager", url="https://pager.example/", topics=[Topic.TRUST_ALARM])
            )
            hook = made.webhook.id
            patch = WebhookPatch(name="night", reason="a better name")
            assert client.patch_webhook(hook, patch).name == "night"
            assert client.get_webhook(hook).url == "https://pager.example/"
            assert client.renew_webhook_secret(hook, WebhookWhy(reason="rotate")).secret != made.secret
            assert client.test_webhook(hook).topic == "test"
            assert [each.topic for each in client.webhook_deliveries(hook)] == ["test"]
            assert client.delete_webhook(hook, "over").id == hook
            assert client.list_webhooks() == []
            with pytest.raises(ClientError) as gone:
                client.get_webhook(hook)
            assert (gone.value.status, gone.value.code) == (404, "not_found")

    await asyncio.to_thread(go)


async def test_the_command_line(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETLOOP_CONFIG_DIR", str(tmp_path / "config"))
    token = tmp_path / "token"
    token.write_text(live.server.tokens[Role.ADMIN])

    async def typed(*words: str) -> Ended:
        return await asyncio.to_thread(fleetloop, "webhooks", *words, "--url", live.url, "--token-file", str(token))

    said = ("create", "pager", "--to", "https://pager.example/x", "--topic", "run.failed", "--topic", "trust.alarm")
    dry = await typed(*said, "--dry-run")
    assert dry.status == 0, dry
    assert "would send POST /api/v1/webhooks" in dry.out
    assert json.loads((await typed("list", "-o", "json")).out or "[]") == []
    made = json.loads((await typed(*said, "-o", "json")).out)
    assert made["secret"].startswith("whsec_")
    hook = made["webhook"]["id"]
    assert (await typed("list", "-o", "name")).out.strip() == hook
    assert "run.failed" in (await typed("list")).out
    off = await typed("change", hook, "--disable", "--reason", "nights", "-o", "json")
    assert json.loads(off.out)["active"] is False
    refused = await typed("test", hook)
    assert (refused.status, refused.out) == (1, "")
    assert "disabled" in refused.err
    assert (await typed("change", hook, "--enable", "--to", "https://p.example/", "--reason", "back")).status == 0
    assert "whsec_" in (await typed("secret", hook, "--reason", "rotate")).out
    assert (await typed("test", hook, "-o", "name")).out.startswith("del_")
    assert "waiting" in (await typed("deliveries", hook)).out
    assert f"webhook {hook} is gone" in (await typed("delete", hook)).out
    assert (await typed("get", hook)).status == 3
    outside = await typed("create", "x", "--to", "ftp://p.example/")
    assert (outside.status, outside.err.split(":")[0]) == (2, "webhook_outside")
    bad = await typed("create", "[bold]x", "--to", "https://p.example/")
    assert bad.status == 2
    assert "name" in bad.err
