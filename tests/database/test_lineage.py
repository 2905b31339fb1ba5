"""Lineage over the API, on its page and by the command line: both ways, by kind, bounded, and honest about it."""

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from agents.sdk import files
from control_plane.cli import connection
from control_plane.kit.db import execute
from control_plane.kit.roles import Role
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Edge, Kind, Node
from tests.browser.seed import Seeded, seed
from tests.support.browsing import Parts, signed_in
from tests.support.cli import fleetloop
from tests.support.live import Live, serve
from tests.support.server import Server

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "lineage.md"
WAY = [Node(Kind.DEVICE, "d"), Node(Kind.FIELD_EVENT, "a <e>"), Node(Kind.RECORDING, "r"), Node(Kind.DATASET, "s")]
WAY += [Node(Kind.TRAINING, "t"), Node(Kind.MODEL_VERSION, "v"), Node(Kind.RELEASE, "x"), Node(Kind.ROLLOUT, "o")]


async def link(server: Server, *edges: Edge) -> None:
    async with server.context.database.transaction() as session:
        await lineage.link_all(session, list(edges))


@pytest.fixture
async def way(server: Server) -> Server:
    """A straight way from one device to a rollout, and back to it."""
    pairs = zip(WAY, [*WAY[1:], WAY[0]], strict=True)
    await link(server, *(Edge(a, b, "made") for a, b in pairs))
    return server


async def graph(server: Server, node: str, **query: Any) -> dict[str, Any]:
    found: dict[str, Any] = await server.ok("GET", f"/lineage/{node}", params=query)
    return found


def named(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(e["source"]["name"], e["relation"], e["target"]["name"]) for e in found["edges"]]


async def test_both_ways_by_depth_and_kind(way: Server) -> None:
    up = await graph(way, "model_version/v", depth=2)
    assert named(up) == [("t", "made", "v"), ("s", "made", "t")]
    assert (up["deeper"], up["truncated"]) == (True, False)
    both = await graph(way, "model_version/v", depth=1, direction="both")
    assert named(both) == [("t", "made", "v"), ("v", "made", "x")]
    only = await graph(way, "model_version/v", depth=20, kind=["device", "dataset"])
    assert ("d", "through field_event, recording", "s") in named(only)
    assert not {"t", "r", "x", "o"} & {name for source, _, target in named(only) for name in (source, target)}
    round_ = await graph(way, "device/d", depth=50)
    assert (len(round_["edges"]), round_["deeper"]) == (len(WAY), False)


async def test_a_walk_that_is_cut_off_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "MOST_EDGES", 10)
    version = Node(Kind.MODEL_VERSION, "v")
    await link(server, *(Edge(Node(Kind.DATASET, f"s{i}"), version, "trained on") for i in range(20)))
    found = await graph(server, "model_version/v")
    assert (len(found["edges"]), found["truncated"]) == (10, True)
    page = (await (await signed_in(server, Role.VIEWER)).get("/lineage/model_version/v")).text
    assert "more than one look can follow" in page
    refused = await server.call("GET", "/lineage/model_version/v/export?format=openlineage")
    assert (refused.status_code, refused.json()["code"]) == (422, "export_too_large")


@pytest.mark.parametrize("query", ["kind=planet", "depth=0", "depth=51", "direction=sideways"])
async def test_bad_questions_are_refused(way: Server, query: str) -> None:
    assert (await way.call("GET", f"/lineage/model_version/v?{query}")).status_code == 422
    assert (await (await signed_in(way, Role.VIEWER)).get(f"/lineage/model_version/v?{query}")).status_code == 422


async def test_the_page_of_any_thing_leads_on_and_keeps_its_filters(way: Server) -> None:
    person = await signed_in(way, Role.VIEWER)
    for each in WAY:
        page = (await person.get(f"/lineage/{each.kind}/{quote(each.name)}?depth=1")).text
        assert "<svg" in page, each
        assert "<e>" not in page, each
    filtered = (await person.get("/lineage/model_version/v?direction=up&depth=9&kind=device&kind=dataset")).text
    tags = Parts(filtered).tags
    checked = {a["value"] for tag, a in tags if tag == "input" and a.get("name") == "kind" and "checked" in a}
    assert checked == {"device", "dataset"}
    assert 'value="up" selected' in filtered
    assert "through field event, recording" in filtered
    nothing = (await person.get("/lineage/device/dev_none")).text
    assert 'class="empty"' in nothing
    left = (await person.get("/lineage/model_version/v?kind=review")).text
    assert "Nothing is left" in left


@pytest.fixture
async def loop(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Live, Seeded]]:
    async with serve(database_url, tmp_path / "home") as live:
        yield live, await seed(live.server.context, devices=6, history=2, canary=2)
        connection.close()


async def test_names_are_readable_and_pages_lead_there(loop: tuple[Live, Seeded]) -> None:
    live, made = loop
    good, person = made.versions[-1], await signed_in(live.server, Role.VIEWER)
    page = (await person.get(f"/lineage/model_version/{good.content_digest}")).text
    links = Parts(page).links
    for words in (">v3</text>", ">v1</text>", ">incidents</text>", "amr-00"):
        assert words in page, words
    assert f"/versions/{good.content_digest}" in links
    for path, thing in (
        (f"/versions/{good.content_digest}", f"model_version/{good.content_digest}"),
        (f"/gates/{made.gates[-1].id}", f"gate/{made.gates[-1].id}"),
        (f"/rollouts/{made.rollouts[-1]}", f"rollout/{made.rollouts[-1]}"),
        (f"/recordings/{made.recordings[0]}", f"recording/{made.recordings[0]}"),
    ):
        assert f"/lineage/{thing}" in Parts((await person.get(path)).text).links
    async with live.server.context.database.transaction() as session:
        told = json.dumps({"candidate": good.content_digest, "gate": ["no name"]})
        await execute(session, "update pipeline_run set result = cast(:told as jsonb)", told=told)
    run = Parts((await person.get(f"/runs/{made.runs[0]}")).text).links
    assert [link_ for link_ in run if link_.startswith("/lineage/")] == [
        f"/lineage/model_version/{good.content_digest}"
    ]
    for form in ("openlineage", "in-toto", "cyclonedx"):
        [link_] = {each for each in links if each.endswith(f"/export?format={form}")}
        answer = await person.get(link_)
        assert (answer.status_code, "attachment" in answer.headers["content-disposition"]) == (200, True)
    assert (await person.get(f"/lineage/device/{made.robots[0].who.id}/export?format=cyclonedx")).status_code == 422


def typed(made: Seeded, release: str) -> list[list[str]]:
    """Return the commands of the page, with what there is in the place of its capital words."""
    there = {"CONTENT": made.versions[-1].content_digest, "ROLLOUT": made.rollouts[-1], "RELEASE": release}
    there["DEVICE"] = made.robots[0].who.id
    there["EVENT"] = f"{made.robots[0].serial}.1"
    lines = re.findall(r"^fleetloop (lineage .*)$", PAGE.read_text(), re.MULTILINE)
    return [shlex.split(re.sub(r"\b[A-Z]+\b", lambda word: there[word[0]], line)) for line in lines]


async def test_the_commands_of_the_page_do_what_it_says(
    loop: tuple[Live, Seeded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, made = loop
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETLOOP_SERVER", live.url)
    monkeypatch.setenv("FLEETLOOP_TOKEN", live.server.tokens[Role.VIEWER])
    release = (await live.server.ok("GET", "/releases"))[0]["digest"]
    commands = typed(made, release)
    assert len(commands) == 8
    for words in commands:
        ended = await asyncio.to_thread(fleetloop, *words)
        assert (ended.status, ended.err) == (0, ""), (words, ended)
        assert ended.out, words
    bill = (tmp_path / "model.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    assert json.loads((tmp_path / "model.intoto.json").read_text())["subject"]
    assert all(map(json.loads, (tmp_path / "release.openlineage.jsonl").read_text().splitlines()))
    content = made.versions[-1].content_digest
    refused = await asyncio.to_thread(fleetloop, "lineage", "export", "dataset/x", "--format", "in-toto")
    assert (refused.status, refused.err.split(":")[0]) == (2, "export_not_of_a_version")
    nowhere = await asyncio.to_thread(fleetloop, "lineage", "export", content, "--to", str(tmp_path / "no" / "x"))
    assert (nowhere.status, nowhere.err.split(":")[0]) == (1, "os_error")


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "bill.json"
    files.write_whole(kept, b"old", durable=True)

    def fails(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "fsync", fails)
    with pytest.raises(OSError, match="no space"):
        files.write_whole(kept, b"new", durable=True)
    assert (kept.read_bytes(), [path.name for path in tmp_path.iterdir()]) == (b"old", ["bill.json"])
