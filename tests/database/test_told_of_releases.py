"""What pages, API and explanations say of releases: who has signed, what was offered, and what is a way back."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agents.protocol.v1.statement import APPROVAL
from control_plane.kit.roles import Role
from tests.database.test_web import Site, open_site
from tests.support.rows import run, select


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(database_url, tmp_path, seeded=True) as made:
        yield made


async def canary(site: Site) -> dict[str, Any]:
    """Return the rollout that has a way back, with that."""
    [found] = await select(
        site.server,
        """select r.id, r.release, r.content_digest, r.champion, r.restore_release, b.counter as back
           from rollout r join registry_release b on b.digest = r.restore_release""",
    )
    return found


async def sign(site: Site, release: str, owner: str) -> None:
    await run(
        site.server,
        """insert into registry_attestation (envelope_sha256, subject_sha256, predicate_type, keyids, owners, envelope,
               policy_version, received_by) values (:id, :release, :kind, '[]', jsonb_build_array(cast(:owner as text)),
               '{}', 1, 'test')""",
        id=f"{owner}-{release}",
        release=release,
        kind=APPROVAL,
        owner=owner,
    )


async def test_signatures_are_counted_alike_for_a_release_and_its_way_back(site: Site) -> None:
    rollout = await canary(site)
    for release in (rollout["release"], rollout["restore_release"]):
        await sign(site, release, "ada")
        await sign(site, release, "ben")
        assert (await site.server.ok("GET", f"/releases/{release}"))["signed_by"] == ["ada", "ben"]
    listed = {item["digest"]: item["signed_by"] for item in await site.server.ok("GET", "/releases")}
    assert listed[rollout["release"]] == listed[rollout["restore_release"]] == ["ada", "ben"]
    browser = await site.browser(Role.VIEWER)
    for path in ("/rollouts/new", f"/versions/{rollout['champion']}", f"/releases/{rollout['restore_release']}"):
        page = (await browser.get(path)).text
        assert "2 signatures" in page
        assert f'signed with <a href="/releases/{rollout["release"]}">its release</a>' in page
        assert "0 of 0" not in page
    assert "2 signatures" in (await browser.get(f"/rollouts/{rollout['id']}")).text


async def test_a_deployment_says_what_was_offered_beside_what_the_device_runs(site: Site) -> None:
    rollout = await canary(site)
    await run(
        site.server,
        "update rollout_deployment set active_content = :champion, standing = 'returned' where rollout_id = :id",
        champion=rollout["champion"],
        id=rollout["id"],
    )
    await run(site.server, "update rollout set phase = 'halted' where id = :id", id=rollout["id"])
    first = (await site.server.ok("GET", f"/rollouts/{rollout['id']}/deployments"))[0]
    assert first["offered_content"] == rollout["content_digest"]
    assert first["active_content"] == rollout["champion"]
    browser = await site.browser(Role.VIEWER)
    page = (await browser.get(f"/rollouts/{rollout['id']}")).text
    deployments = page[page.index(">Deployments <") :]
    assert "Ran at its end" in deployments
    assert "p99 ms of v3" in deployments
    assert deployments.index(f"/versions/{rollout['content_digest']}") < deployments.index(
        f"/versions/{rollout['champion']}"
    )
    device = (await browser.get(f"/fleet/{first['device_id']}")).text
    history = device[device.index("Deployments of this device") :]
    assert f"/versions/{rollout['content_digest']}" in history


async def test_a_device_on_a_way_back_is_told_so_with_its_rollout(site: Site) -> None:
    rollout = await canary(site)
    await run(site.server, "update rollout set phase = 'halted', offering = false where id = :id", id=rollout["id"])
    [device] = await select(
        site.server,
        "select id from fleet_device where state = 'active' and id not in (select device_id from rollout_deployment "
        "where standing = 'quarantined') limit 1",
    )
    await run(
        site.server,
        "update fleet_device set counter_floor = :back, active_counter = :back, active_content = :content "
        "where id = :id",
        back=rollout["back"],
        content=rollout["champion"],
        id=device["id"],
    )
    lines = (await site.server.ok("GET", f"/devices/{device['id']}/explanation"))["lines"]
    said = f"It is ordered by the way back from rollout {rollout['id']} (counter {rollout['back']})"
    [line] = [each for each in lines if each.startswith(said)]
    assert "with the content of the fleet's own release (counter 1): it runs what it is to run." in line
    fleet = (await (await site.browser(Role.VIEWER)).get("/fleet")).text
    assert f"release counter {rollout['back']}" in fleet
