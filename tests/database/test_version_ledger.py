"""What versions cost and prevented, over a seeded installation whose figures are made round, and worked out by hand."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from control_plane.kit import clock
from control_plane.kit.db import Session, execute, rows
from control_plane.kit.roles import Role
from tests.browser.seed import MODEL, Seeded, seed
from tests.database.test_web import Site
from tests.support.server import Server, open_server


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Server, Seeded]]:
    async with open_server(database_url, tmp_path) as server:
        yield server, await seed(server.context, devices=6, history=1, canary=1)


async def job(session: Session, key: str, kind: str, usd: float, subject: str = "", run: str | None = None) -> None:
    await execute(
        session,
        """insert into factory_job (key, kind, cluster, run_id, subject, spec, state, attempt, progress, note,
               wall_s, cpu_s, gpu_s, usd, energy_j, energy_is_estimate, created_at)
           values (:key, :kind, 'local', :run, :subject, '{}', 'done', 1, 1, '', 1, 1, 0, :usd, :joules, false,
               now() - interval '2 hours')""",
        key=key, kind=kind, subject=subject, run=run, usd=usd, joules=usd * 1000,
    )  # fmt: skip


async def drove(session: Session, device: str, content: str, metres: int, near_misses: int) -> None:
    await execute(
        session,
        """insert into telemetry_device_sum (device_id, content_digest, device_class, site, distance_mm, duration_ms,
               windows, counts, first_at, last_at)
           values (:device, :content, 'sim-amr', 'hall', :mm, 1000, 1, jsonb_build_object('near_miss', cast(:n as int)),
               now(), now())""",
        device=device, content=content, mm=metres * 1000, n=near_misses,
    )  # fmt: skip


async def make_round(server: Server, made: Seeded, after: tuple[int, int]) -> None:
    """Give v1, v2 and v3 jobs; promote v3, and let both have driven at the hall; `after`: near misses of v3's two."""
    v1, v2, v3 = (version.content_digest for version in made.versions[:3])
    keys = {version.content_digest: version.training for version in made.versions}
    async with server.context.database.transaction() as session:
        await execute(session, "delete from factory_job")
        await execute(session, "update evaluation_case set job_key = 'sim-' || evaluation_id")
        ids = {content: [] for content in (v1, v2, v3)}
        for line in await server_evaluations(session):
            ids[line["content_digest"]].append(line["id"])
        for content, usd in ((v1, 1.0), (v2, 2.0), (v3, 4.0)):
            for evaluation in ids[content]:
                await job(session, f"sim-{evaluation}", "simulate", usd)
        await job(session, "train-2", "train", 10.0, keys[v2] or "")
        await job(session, "train-3", "train", 20.0, keys[v3] or "")
        for table in ("telemetry_device_sum", "telemetry_cell"):
            await execute(session, f"delete from {table}")  # noqa: S608 - two literals
        for number in range(2):
            await drove(session, f"d{number}", v1, 5000, 20)
            await drove(session, f"d{number}", v3, 4000, after[number])
        now = clock.now()
        await execute(
            session,
            """insert into telemetry_cell (device_class, site, content_digest, starts_at, width_s, first_window_at,
                   distance_mm, duration_ms, decisions, windows, counts, changed)
               values ('sim-amr', 'hall', :content, :at, 60, :at, 5000000, 1000, 1, 1, '{}', 1)""",
            content=v3, at=now - timedelta(minutes=5),
        )  # fmt: skip
        await execute(
            session,
            "update rollout set phase = 'done', finished_at = :at, champion = :champion, sites = null "
            "where content_digest = :content",
            at=now - timedelta(hours=1), champion=v1, content=v3,
        )  # fmt: skip


async def server_evaluations(session: Session) -> Any:
    return await rows(session, "select id, content_digest from evaluation order by id")


async def test_costs_and_prevented_incidents_by_hand(site: tuple[Server, Seeded]) -> None:
    server, made = site
    await make_round(server, made, (4, 4))
    found = await server.ok("GET", "/ledger/versions", Role.VIEWER)
    lines = {line["version"]: line for line in found["versions"]}
    assert list(lines) == sorted(lines, reverse=True)
    third = lines[3]
    evaluations = third["simulation"]["jobs"]
    assert third["training"] == {"jobs": 1, "usd": 20.0, "energy_j": 20000.0, "energy_is_estimate": False}
    assert third["simulation"]["usd"] == 4.0 * evaluations
    assert third["gate"]["usd"] == 1.0 * third["gate"]["jobs"] > 0  # what it was paired with: v1's episodes
    assert third["total"]["usd"] == third["training"]["usd"] + third["simulation"]["usd"] + third["gate"]["usd"]
    assert third["per_1000_episodes"]["usd"] == pytest.approx(third["simulation"]["usd"] * 1000 / third["episodes"])
    # v2 was tried in vain after v1 was promoted: v3's promotion pays for both, and for v1's episodes once.
    way = third["training"]["usd"] + third["simulation"]["usd"] + 10.0 + lines[2]["simulation"]["usd"]
    first = {line["version"] for line in found["versions"] if line["promoted_at"]}
    assert first >= {3}
    assert third["until_promoted"]["usd"] >= way
    # 40 in 10 km before, 8 in 8 km after, 5 km since: (4 - 1) * 5.
    assert third["prevented"]["estimate"] == pytest.approx(15.0)
    assert 0 < third["prevented"]["low"] < 15 < third["prevented"]["high"]
    assert third["prevented"]["exposure"] == 5000.0
    assert third["per_prevented"]["usd"] == pytest.approx(third["until_promoted"]["usd"] / 15)
    [model] = found["models"]
    assert model["promoted"] == len(first)
    assert model["per_promoted"]["usd"] == pytest.approx(model["total"]["usd"] / len(first))
    assert (await server.ok("GET", f"/ledger/versions?model={MODEL}"))["models"] == [model]
    assert (await server.call("GET", "/ledger/versions?model=none")).status_code == 404


def files(**shas: str) -> str:
    return json.dumps({path: {"sha256": sha, "size_bytes": 1} for path, sha in shas.items()})


async def test_a_version_pays_for_what_was_spent_on_it_and_for_no_later_run(site: tuple[Server, Seeded]) -> None:
    """v3 learned from what relabel-3 wrote; a later run relabelled the same dataset and drove v3 as champion."""
    server, made = site
    await make_round(server, made, (4, 4))
    v3 = made.versions[2]
    async with server.context.database.transaction() as session:
        await execute(
            session,
            "update factory_job set spec = jsonb_build_object('inputs', cast(:i as jsonb)), run_id = 'run-3' "
            "where key = 'train-3'",
            i=files(frames="aa"),
        )
        await job(session, "relabel-3", "relabel", 100.0, v3.dataset or "")
        await execute(session, "update factory_job set outputs = :o where key = 'relabel-3'", o=files(out="aa"))
        await job(session, "relabel-later", "relabel", 1000.0, v3.dataset or "", "run-later")
        await job(session, "sim-later", "simulate", 7.0, "", "run-later")
        await job(session, "suites", "scenarios", 0.5)
        await execute(
            session,
            "update evaluation_case set job_key = 'sim-later' where scenario = (select min(scenario) from "
            "evaluation_case) and evaluation_id in (select id from evaluation where content_digest = :v3)",
            v3=v3.content_digest,
        )
        await execute(session, "update factory_job set created_at = now() where run_id = 'run-later'")
    found = await server.ok("GET", "/ledger/versions")
    [third] = [line for line in found["versions"] if line["version"] == 3]
    assert third["data"]["usd"] == 100.0
    until, total = third["until_promoted"]["usd"], third["total"]["usd"]
    assert total == pytest.approx(100 + 20 + third["simulation"]["usd"] + third["gate"]["usd"])
    second = next(line for line in found["versions"] if line["version"] == 2)
    in_vain = 0.0 if second["promoted_at"] else 10.0 + second["simulation"]["usd"]
    assert until == pytest.approx(total - 7.0 + in_vain)
    # The ledger is the models' totals and what served no single version.
    whole = sum(line["usd"] for line in (await server.ok("GET", "/ledger"))["lines"])
    rest = found["of_no_version"]
    assert rest["usd"] == pytest.approx(1000.5)
    assert rest["kinds"] == ["relabel", "scenarios"]
    assert sum(model["total"]["usd"] for model in found["models"]) + rest["usd"] == pytest.approx(whole)
    assert (await server.ok("GET", f"/ledger/versions?model={MODEL}"))["of_no_version"] is None
    page = (await (await Site(server, made).browser(Role.VIEWER)).get("/ledger")).text
    assert "of no version: relabel, scenarios" in page


async def test_a_gate_is_charged_the_share_of_the_episodes_it_paired(site: tuple[Server, Seeded]) -> None:
    """v3's gate read 300 + 60 episodes of v1; with results of v3 in a third of the scenarios it used a third."""
    server, made = site
    await make_round(server, made, (4, 4))
    v3 = made.versions[2].content_digest
    async with server.context.database.transaction() as session:
        await execute(
            session,
            """delete from evaluation_case c using evaluation e where c.evaluation_id = e.id and e.content_digest = :v3
               and c.scenario not in (select scenario from (select scenario, row_number() over (partition by
                   evaluation_id order by scenario) as n from evaluation_case) s where n % 3 = 0)""",
            v3=v3,
        )
    lines = {line["version"]: line for line in (await server.ok("GET", "/ledger/versions"))["versions"]}
    assert lines[3]["gate"]["jobs"] == 2
    assert lines[3]["gate"]["usd"] == pytest.approx(2 / 3)
    assert lines[2]["gate"]["usd"] == pytest.approx(2.0)


async def test_what_is_not_told_apart_from_none_is_an_interval_and_no_number(site: tuple[Server, Seeded]) -> None:
    server, made = site
    await make_round(server, made, (15, 16))
    [third] = [line for line in (await server.ok("GET", "/ledger/versions"))["versions"] if line["version"] == 3]
    assert third["prevented"]["estimate"] is None
    assert third["prevented"]["low"] < 0 < third["prevented"]["high"]
    assert third["per_prevented"] is None
    page = (await (await Site(server, made).browser(Role.VIEWER)).get("/ledger")).text
    assert "not told apart from none" in page
    assert 'id="versions"' in page
