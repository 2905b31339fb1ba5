"""Hostile words in every field that a stranger or a device can set, on every page that shows them."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from control_plane.audit import service as audit
from control_plane.kit.db import execute, rows
from control_plane.kit.roles import Role
from tests.browser.seed import MODEL, Seeded, seed
from tests.support.browsing import Parts, signed_in
from tests.support.routes import Way, ways
from tests.support.server import Server, open_server

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)></title>{{7*7}}\u202e\r\nX-Evil: 1"
SCHEMES = re.compile(r"^\s*(javascript|data|vbscript):", re.IGNORECASE)
SHUT = (
    "state",
    "health",
    "waiting",
    "phase",
    "kind",
    "role",
    "way",
    "verdict",
    "severity",
    "decision",
    "outcome",
    "standing",
    "side",
    "status",
    "exposure",
    "backend",
    "severity",
    "flow",
)
"""Columns by their last word that hold a word of ours, never a stranger's."""
LINKS = ("champion", "parent", "dataset", "training", "model", "release", "content", "waits_for")
"""Columns that name something by its digest or a checked name."""
OPEN = {
    "fleet_device.serial": "id || :words",
    "fleet_device.site": ":words",
    "telemetry_event.kind": ":words",
    "evaluation_suite.name": "digest || :words",
}
"""What devices and programs may choose though it is indexed, and what becomes of it."""
KEYS = """
select table_name || '.' || column_name as name from information_schema.key_column_usage where table_schema = 'public'
union select t.relname || '.' || a.attname from pg_index i join pg_class t on t.oid = i.indrelid
      join pg_attribute a on a.attrelid = t.oid and a.attnum = any(i.indkey)
"""
TEXTS = """
select c.table_name, c.column_name from information_schema.columns c join information_schema.tables t
  on t.table_name = c.table_name and t.table_schema = c.table_schema
where c.table_schema = 'public' and c.data_type in ('character varying', 'text') and t.table_type = 'BASE TABLE'
order by 1, 2
"""
BAGS = (
    "fleet_device.labels",
    "fleet_device.platform",
    "fleet_device.spool",
    "fleet_device_class.facts",
    "telemetry_event.details",
)


async def poison(server: Server) -> set[str]:
    """Put hostile words into every free text of the database, past all checks; return the columns that hold them."""
    async with server.context.database.transaction() as session:
        kept = {row["name"] for row in await rows(session, KEYS)}
        texts = [f"{row['table_name']}.{row['column_name']}" for row in await rows(session, TEXTS)]
        done = set()
        for name in texts:
            table, column = name.split(".")
            shut = (*SHUT, *LINKS, "id", "digest", "sha256", "hash", "pem", "code")
            free = name not in kept and not column.endswith(shut)
            if free and not table.startswith(("kit_", "audit_", "access_", "webhook", "registry_tuf", "registry_meta")):
                statement = f"update {table} set {column} = :words where {column} is not null"  # noqa: S608 - columns
                done |= {name} if await execute(session, statement, words=HOSTILE) else set()
        for name, value in OPEN.items():
            table, column = name.split(".")
            statement = f"update {table} set {column} = {value}"  # noqa: S608 - columns
            await execute(session, statement, words=HOSTILE)
        for name in BAGS:
            table, column = name.split(".")
            more = json.dumps({HOSTILE: HOSTILE})
            statement = f"update {table} set {column} = {column} || cast(:more as jsonb)"  # noqa: S608 - columns
            await execute(session, statement, more=more)
        await audit.record(session, HOSTILE, HOSTILE.replace("\r\n", ""), HOSTILE, HOSTILE, note=HOSTILE)
    return done


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Server, Seeded]]:
    async with open_server(database_url, tmp_path) as server:
        yield server, await seed(server.context, devices=6, history=2, canary=3)


def _values(made: Seeded) -> dict[str, list[str]]:
    return {
        "device_id": [robot.who.id for robot in made.robots[:2]],
        "number": ["1"],
        "sha256": made.recordings[:1],
        "run_id": made.runs,
        "gate_id": [gate.id for gate in made.gates],
        "rollout_id": made.rollouts,
        "name": [MODEL],
        "digest": [version.content_digest for version in made.versions],
    }


def _look(answer: httpx.Response, path: str) -> list[str]:
    """Check one answer as a browser would read it; return where it leads."""
    assert answer.status_code == 200, (path, answer.status_code, answer.text[-400:])
    assert "x-evil" not in answer.headers, path
    for value in answer.headers.values():
        assert "alert(1)" not in value, path
    if not answer.headers["content-type"].startswith("text/html"):
        assert answer.headers["x-content-type-options"] == "nosniff", path
        return []
    parts = Parts(answer.text)
    for tag, attributes in parts.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (path, tag, attributes)
        assert tag not in ("style", "base", "iframe", "object", "embed"), (path, tag)
        assert (
            tag != "script" or attributes.get("src", "").startswith("/static/") or "json" in attributes.get("type", "")
        )
        assert all(link.isprintable() for name, link in attributes.items() if name == "href"), (path, attributes)
        assert tag != "img" or attributes["src"].startswith("/static/"), path
        for name in ("href", "src", "action", "formaction", "xlink:href"):
            assert not SCHEMES.match(attributes.get(name, "")), (path, attributes)
    assert "{{7*7}}" in answer.text or "49" not in re.findall(r"&gt;(49)", answer.text), path
    return [link for link in parts.links if urlsplit(link).netloc == "" and link.startswith("/")]


async def test_hostile_words_stay_words_on_every_page(site: tuple[Server, Seeded]) -> None:
    server, made = site
    poisoned = await poison(server)
    assert len(poisoned) > 30, poisoned
    person, values = await signed_in(server, Role.ADMIN), _values(made)
    seen: dict[str, str] = {}
    waiting = [path for way in ways(server.app) if way.is_page for path in _paths(way, values)]
    while waiting and len(seen) < 300:
        path = waiting.pop(0)  # what is known comes before what is linked, of which there may be much
        if path not in seen:
            answer = await person.get(path)
            seen[path] = answer.text
            links = [link.split("#")[0] for link in _look(answer, path)]
            waiting += [link for link in links if "/open/" not in link]  # leads to another program, by a redirect
    everything = "".join(seen.values())
    assert "&lt;script&gt;alert(1)" in everything
    assert everything.count("&lt;script&gt;alert(1)") > 50
    _all_seen(server, set(seen))


def _paths(way: Way, values: dict[str, list[str]]) -> list[str]:
    """Return a page's addresses for what is there; others are found by following links."""
    if way.method != "GET" or way.path in NOT_LINKED:
        return []
    names = re.findall(r"\{(\w+)", way.path)
    if not names:
        return [way.path]
    if len(names) > 1 or names[0] not in values or way.path.startswith("/releases"):
        return []
    return [way.filled({names[0]: value}) for value in values[names[0]]]


NOT_LINKED = {
    "/login/oidc",
    "/login/oidc/back",
    "/{path:page}",
    "/fleet/actions",
    "/fleet/actions/{bulk_id}",
    "/recordings/{sha256}/file",
    "/recordings/{sha256}/open/{viewer}",
    "/recordings/{sha256}/replay.json",
    "/gates/{gate_id}/replays/{suite}/{scenario}",
    "/gates/{gate_id}/replays/{suite}/{scenario}/{side}.json",
    "/releases/{digest}/statement.json",
    "/settings/webhooks/{webhook_id}",
}
"""Pages the seed has nothing for; what they show has tests of its own."""


def _all_seen(server: Server, seen: set[str]) -> None:
    """A page that nobody came to is a page that nobody checked."""
    for way in ways(server.app):
        if way.is_page and way.method == "GET" and way.path not in NOT_LINKED:
            pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(way.path))
            assert any(re.fullmatch(pattern, urlsplit(path).path) for path in seen), way.path
