"""A plan says what speaks against its release: the page, the API and the command say the same."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.kit.roles import Role
from tests.database.test_web import Site, open_site
from tests.support.rows import run, select

PLAN = {"stages": [{"fraction": 1.0, "max_exposure": 1000.0, "deadline_s": 86400.0}]}


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(database_url, tmp_path, seeded=True) as made:
        yield made


async def planned(site: Site, release: str, **more: object) -> dict[str, object]:
    item = await site.server.ok("GET", f"/releases/{release}")
    asked = {"model": item["model"], "device_classes": item["device_classes"], "plan": PLAN, "release": release} | more
    return (await site.server.ok("POST", "/rollouts/plan", json=asked))["doubts"]


async def test_a_plan_warns_of_refusals_of_what_runs_already_and_of_an_earlier_halt(site: Site) -> None:
    rollouts = await select(site.server, "select id, release, content_digest, counter from rollout order by counter")
    first, last = rollouts[0], rollouts[-1]
    await run(site.server, "update fleet_device set counter_floor = :n", n=last["counter"])
    await run(site.server, "update fleet_device set counter_floor = 0 where site <> 'hall'")
    await run(
        site.server,
        "update fleet_device set active_content = case when site = 'annex' then :content end",
        content=first["content_digest"],
    )
    halls, annexes = [
        (await select(site.server, "select count(*) as n from fleet_device where site = :name", name=name))[0]["n"]
        for name in ("hall", "annex")
    ]
    found = await planned(site, first["release"])
    assert (found["refusing"], found["all_counted"], found["running"]) == (halls, True, annexes)
    assert found["devices"] > halls + annexes
    only = await planned(site, first["release"], sites=["annex"])
    assert (only["refusing"], only["running"], only["devices"]) == (0, annexes, annexes)
    page = (await (await site.browser(Role.VIEWER)).get(f"/rollouts/new?release={first['release']}")).text
    assert f"{halls} of {found['devices']} devices would refuse it" in page
    assert f"{annexes} of {found['devices']} devices run this content already" in page


async def test_the_newest_release_is_refused_by_nobody_until_it_has_been_halted(site: Site) -> None:
    await run(site.server, "update fleet_device set active_content = null")
    [last] = await select(site.server, "select id, release, counter from rollout order by counter desc limit 1")
    assert (await planned(site, last["release"]))["items"] == []
    await run(site.server, "update rollout set phase = 'halted' where id = :id", id=last["id"])
    await run(
        site.server,
        "insert into rollout_decision (rollout_id, at, phase, stage, because, figures) "
        "values (:id, now(), 'halting', 0, 'canary is worse', '{}')",
        id=last["id"],
    )
    [doubt] = (await planned(site, last["release"]))["items"]
    assert doubt["rollout_id"] == last["id"]
    assert "canary is worse" in doubt["words"]
    page = (await (await site.browser(Role.VIEWER)).get(f"/rollouts/new?release={last['release']}")).text
    assert f'<a href="/rollouts/{last["id"]}">See that rollout</a>' in page


async def test_a_plan_of_another_models_release_is_refused(site: Site) -> None:
    [last] = await select(site.server, "select release from rollout limit 1")
    asked = {"model": "other", "device_classes": ["sim-amr"], "plan": PLAN, "release": last["release"]}
    assert (await site.server.call("POST", "/rollouts/plan", json=asked)).status_code in (404, 422)
