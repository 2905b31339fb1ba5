"""The fleet page against a brute-force count: filters, sorting, facets, paging; views; actions on many."""

import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import hypothesis.strategies as st
import pytest
from hypothesis import given

from control_plane.audit import service as audit
from control_plane.fleet import service
from control_plane.fleet.domain import Facet, Filter, Health, Order
from control_plane.fleet.reconcile import Sweeper
from control_plane.fleet.schemas import ListedDevice
from control_plane.fleet.store import listing
from control_plane.kit import clock
from control_plane.kit.db import execute, rows
from control_plane.kit.errors import Invalid
from control_plane.kit.roles import Role
from control_plane.web.look import PARAMETERS, SORTS, Look, look_at, look_in
from tests.database.test_web import Site, form_token
from tests.support.server import open_server
from tests.support.varied_fleet import fall_silent, fill, vary

DEVICES = 700
EVIL = '"><script>alert(1)</script>'


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_server(database_url, tmp_path) as server:
        await fill(server.context.database, DEVICES, 7)
        yield Site(server, None)  # type: ignore[arg-type] - nothing of the seed is used here


async def everybody(site: Site) -> list[ListedDevice]:
    """Read all devices as the database has them, without any of what is tested."""
    async with site.server.context.database.transaction() as session:
        found = await rows(
            session,
            """select id as device_id, serial, site, device_class, coalesce(active_content, '') as content, state,
                   last_seen_at, enrolled_at, agent_version, deployment ->> 'phase' as phase,
                   deployment ->> 'reason' as reason, deployment ->> 'detail' as detail from fleet_device""",
        )
    return [ListedDevice(health=judged(dict(line)), waiting=waits(dict(line)), **line) for line in found]


def judged(line: dict[str, object]) -> Health:
    if line["state"] != "active":
        return Health(str(line["state"]))
    phases = {"committed": Health.OK, "idle": Health.OK, "reverted": Health.REVERTED, "refused": Health.FAILED}
    return phases.get(str(line["phase"] or "idle"), Health.UPDATING)


def waits(line: dict[str, object]) -> str:
    return str(line["reason"] or "") if judged(line) is Health.UPDATING else ""


def matches(device: ListedDevice, wanted: Filter) -> bool:
    facets = all(getattr(device, facet.value) == value for facet, value in wanted.facets.items())
    return facets and (device.serial.startswith(wanted.search) or device.device_id.startswith(wanted.search))


def filters() -> list[Filter]:
    values = {
        Facet.SITE: "site-03",
        Facet.DEVICE_CLASS: "arm",
        Facet.CONTENT: "a" * 64,
        Facet.HEALTH: "failed",
        Facet.WAITING: "moving",
    }
    some = [{}, *({facet: value} for facet, value in values.items())]
    some += [dict(pair) for pair in itertools.combinations(values.items(), 2)]
    some += [{Facet.CONTENT: ""}, {Facet.HEALTH: "quarantined"}, {Facet.HEALTH: "silent"}, {Facet.SITE: EVIL}]
    return [Filter("", facets) for facets in some] + [Filter("sim_000001"), Filter("sim_", {Facet.HEALTH: "ok"})]


@pytest.mark.parametrize("few", [50_000, 3], ids=["found and sorted", "walked along"])
async def test_filters_facets_and_sorting_are_what_a_count_by_hand_says(
    site: Site, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "FEW_MOST", few)
    known = await everybody(site)
    assert len({device.health for device in known}) == 6
    for wanted in filters():
        right = [device for device in known if matches(device, wanted)]
        async with site.server.context.database.transaction() as session:
            counts = await service.count_fleet(session, wanted)
            assert counts.total == len(right), wanted
            for facet in Facet:
                others = wanted if wanted.search else wanted.without(facet)
                by_hand = Counter(str(getattr(d, facet.value)) for d in known if matches(d, others))
                assert {line.value: line.devices for line in counts.facets[facet.value]} == by_hand, (wanted, facet)
            for order, falling in itertools.product(Order, (False, True)):
                page = await service.list_fleet(session, wanted, order, falling=falling, limit=25)
                ranked = sorted(right, key=lambda d: (getattr(d, order.value), d.serial), reverse=falling)
                assert [d.device_id for d in page.items] == [d.device_id for d in ranked[:25]], (wanted, order)
                assert (page.before, page.after is None) == (None, len(right) <= 25)


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        (Order.SERIAL, Filter()),
        (Order.HEALTH, Filter()),
        (Order.SITE, Filter("", {Facet.DEVICE_CLASS: "arm"})),
        (Order.CONTENT, Filter("", {Facet.HEALTH: "ok"})),
    ],
)
async def test_paging_forwards_and_back_shows_everybody_once_while_others_come(
    site: Site, order: Order, wanted: Filter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "FEW_MOST", 100)
    database, seen, first, after = site.server.context.database, list[str](), list[str](), None
    came = 0
    while True:
        async with database.transaction() as session:
            page = await service.list_fleet(session, wanted, order, after=after, limit=60)
        seen += [device.device_id for device in page.items]
        first = first or seen[:]
        if page.after is None:
            break
        after, came = page.after, came + 1
        async with database.transaction() as session:  # one before the place, one after it
            await service.add_simulated(session, range(9000 + came, 9001 + came), [], ["arm"], ["site-99"])
    known = {device.device_id for device in await everybody(site) if matches(device, wanted)}
    assert len(seen) == len(set(seen))
    assert {each for each in known if each < "sim_00009000"} <= set(seen)
    back = list[str]()
    async with database.transaction() as session:
        while page.before is not None:
            page = await service.list_fleet(session, wanted, order, before=page.before, limit=60)
            back = [device.device_id for device in page.items] + back
    old = [each for each in back if each < "sim_00009000"]  # who came before the place since is there as well
    assert old[: len(first)] == first
    assert len(back) == len(set(back))


async def test_an_id_is_found_where_no_serial_begins_so(site: Site) -> None:
    async with site.server.context.database.transaction() as session:
        await execute(session, "update fleet_listing set serial = 'sn-' || right(device_id, 4)")
        by_serial = await service.list_fleet(session, Filter("sn-001"), Order.SITE)
        by_id = await service.list_fleet(session, Filter("sim_0000001", {Facet.DEVICE_CLASS: "arm"}))
        counts = await service.count_fleet(session, Filter("sim_0000001"))
    assert sorted(d.device_id for d in by_serial.items) == [f"sim_{n:08d}" for n in range(10, 20)]
    assert [d.device_id for d in by_id.items] == [f"sim_{n:08d}" for n in range(10, 20, 2)]
    assert counts.total == 10


async def test_counts_follow_every_change_and_folding_changes_nothing(site: Site) -> None:
    database = site.server.context.database
    async with database.transaction() as session:
        await execute(session, "update fleet_device set site = 'moved' where id < 'sim_00000100'")
        await execute(session, "delete from fleet_device where id >= 'sim_00000600'")
    await vary(database, range(100, 200))
    async with database.transaction() as session:
        before = await service.count_fleet(session, Filter())
        filler = "insert into fleet_facet select '', '', '', '', '', 0 from generate_series(1, 1100)"
        await execute(session, filler)
        assert await service.fold(session)
        after = await service.count_fleet(session, Filter())
        listed = await rows(session, "select site, count(*) as n from fleet_listing group by site")
        assert (await rows(session, "select count(*) as n from fleet_facet where devices < 0"))[0]["n"] == 0
    assert before == after
    assert before.total == 600
    assert {line.value: line.devices for line in before.facets["site"]} == {line["site"]: line["n"] for line in listed}


async def test_silence_is_noticed_and_forgotten(site: Site) -> None:
    context = site.server.context
    async with context.database.transaction() as session:
        await fall_silent(session, 10)
    assert await Sweeper(context).tick() == 1
    async with context.database.transaction() as session:
        silent = (await service.count_fleet(session, Filter("", {Facet.HEALTH: "silent"}))).total
        active = await rows(
            session, "select count(*) as n from fleet_device where state = 'active' and right(id, 4)::int % 10 = 0"
        )
        assert silent == active[0]["n"] > 50
        await execute(session, "update fleet_device set last_seen_at = now() where id < 'sim_00000300'")
        assert await service.sweep(session, "", clock.now()) == ""
        page = await service.list_fleet(session, Filter("", {Facet.HEALTH: "silent"}), limit=100)
    assert {device.device_id >= "sim_00000300" for device in page.items} == {True}
    by_hand = {device.device_id: device.health for device in await everybody(site)}
    async with context.database.transaction() as session:
        back = await service.list_fleet(session, Filter(), limit=300)
    assert {d.device_id: d.health for d in back.items} == {d.device_id: by_hand[d.device_id] for d in back.items}


@given(
    st.builds(
        Look,
        search=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20).map(str.strip),
        facets=st.dictionaries(
            st.sampled_from([facet for facet in PARAMETERS if facet is not Facet.HEALTH]),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
        ),
        sort=st.sampled_from(list(SORTS)),
        falling=st.booleans(),
    )
)
def test_every_look_is_a_link_that_leads_back_to_it(look: Look) -> None:
    assert look_in(look.query()) == look
    assert look_in(look.set(Facet.HEALTH, "failed").unset(Facet.HEALTH).query()) == look


@pytest.mark.parametrize("bad", [{"health": "sick"}, {"sort": "colour"}, {"q": "x" * 201}, {"site": "a\0b"}])
def test_a_look_that_is_none_is_refused(bad: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        look_at(bad)


async def test_the_page_keeps_its_state_in_its_address(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    shown = (await browser.get("/fleet?class=arm&health=updating&sort=-site")).text
    assert 'aria-sort="descending"' in shown
    assert "/fleet?class=arm&amp;sort=-site" in shown  # the health dropped again
    assert re.search(r'href="/fleet\?health=updating&amp;class=arm&amp;site=site-0\d', shown) or "site=site-0" in shown
    on = re.search(r'href="(/fleet\?[^"]*after=[^"]+)" rel="next"', (await browser.get("/fleet?class=arm")).text)
    assert on
    second = (await browser.get(on[1].replace("&amp;", "&"))).text
    assert 'rel="prev"' in second
    for path in ("/fleet?health=sick", "/fleet?sort=colour", "/fleet?q=" + "x" * 300, "/fleet?after=%25%25"):
        assert (await browser.get(path)).status_code == 422, path
    none = (await browser.get("/fleet?site=nowhere")).text
    assert "No device is like that" in none
    assert 'name="device"' not in shown  # a viewer acts on nothing


async def test_hostile_names_stay_words(site: Site) -> None:
    async with site.server.context.database.transaction() as session:
        await execute(
            session,
            """update fleet_device set serial = cast(:evil as text), site = cast(:evil as text), device_class = 'arm',
               deployment = jsonb_build_object(
                   'phase', 'armed', 'reason', cast(:evil as text), 'detail', cast(:evil as text)),
               platform = jsonb_build_object(cast(:evil as text), cast(:evil as text)) where id = 'sim_00000001'""",
            evil=EVIL,
        )
        await execute(session, "delete from fleet_listing where device_id = 'sim_00000001'")
        await execute(
            session,
            """insert into fleet_listing select id, serial, site, device_class, '', 'updating', serial
               from fleet_device where id = 'sim_00000001'""",
        )
    browser = await site.browser(Role.ADMIN)
    paths = ["/fleet", f"/fleet?{urlencode({'site': EVIL})}", f"/fleet?{urlencode({'q': EVIL, 'waiting': EVIL})}"]
    paths += ["/fleet/sim_00000001", "/fleet/plan", f"/fleet/plan?{urlencode({'site': EVIL})}"]
    paths += [f"/fleet/actions?{urlencode({'action': 'label', 'of': 'all', 'site': EVIL})}"]
    for path in paths:
        answer = await browser.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert "<script>alert" not in answer.text, path
        assert not re.search(r"<[^>]* (style|on\w+)=", answer.text), path


async def test_views_are_saved_shared_and_removed(site: Site) -> None:
    viewer, operator = await site.browser(Role.VIEWER), await site.browser(Role.OPERATOR)
    mine = {"form_token": await form_token(viewer), "name": f" bad  ones {EVIL}"[:40], "query": "health=failed&x=1"}
    assert (await viewer.post("/fleet/views", data=mine)).headers["location"] == "/fleet?health=failed"
    page = (await viewer.get("/fleet")).text
    assert "bad ones" in page
    assert "<script>alert" not in page
    assert "bad ones" not in (await operator.get("/fleet")).text
    assert (await viewer.post("/fleet/views", data=mine | {"shared": "yes"})).status_code == 403
    ours = {"form_token": await form_token(operator), "name": "arms", "query": "class=arm", "shared": "yes"}
    assert (await operator.post("/fleet/views", data=ours)).status_code == 303
    assert (await operator.post("/fleet/views", data=ours | {"query": "class=arm&sort=site"})).status_code == 303
    page = (await viewer.get("/fleet")).text
    assert page.count("shared by test-operator") == 1
    assert "/fleet?class=arm&amp;sort=site" in page
    view = re.search(r'<li id="(view_\w+)"><a href="/fleet\?class=arm', page)
    assert view
    assert (await viewer.post(f"/fleet/views/{view[1]}/remove", data=mine)).status_code == 403
    assert (await operator.post(f"/fleet/views/{view[1]}/remove", data={"query": ""})).status_code == 403  # no token
    assert (await operator.post(f"/fleet/views/{view[1]}/remove", data=ours)).status_code == 303
    assert "shared by" not in (await viewer.get("/fleet")).text
    for name in ("", "  ", "x" * 61):
        assert (await viewer.post("/fleet/views", data=mine | {"name": name})).status_code == 422


HIDDEN = re.compile(r'name="(selection|seal)" value="([^"]*)"')


def hidden_of(page: str) -> dict[str, str]:
    return {name: value.replace("&amp;", "&") for name, value in HIDDEN.findall(page)}


async def test_many_are_quarantined_after_a_preview_and_a_second_question(site: Site) -> None:
    browser = await site.browser(Role.OPERATOR)
    known = await everybody(site)
    meant = {d.device_id for d in known if d.device_class == "arm" and d.content == "a" * 64}
    changed = {d.device_id for d in known if d.device_id in meant and d.state == "active"}
    query = urlencode({"class": "arm", "version": "a" * 64, "action": "quarantine", "of": "all"})
    preview = (await browser.get(f"/fleet/actions?{query}")).text
    assert f'id="count">{len(meant)}<' in preview
    assert f'id="changes">{len(changed)}<' in preview
    assert preview.count('<th scope="row">') == 100
    body = hidden_of(preview) | {"form_token": await form_token(browser)}
    assert (await browser.post("/fleet/actions", data=body)).status_code == 422  # no reason
    second = (await browser.post("/fleet/actions", data=body | {"reason": "a recall", "step": "ask"})).text
    assert "Asked a second time" in second
    assert {d.state for d in await everybody(site) if d.device_id in changed} == {"active"}
    done = await browser.post("/fleet/actions", data=hidden_of(second) | body | {"reason": "a recall", "step": "do"})
    assert done.status_code == 303, done.text
    after = {d.device_id: d for d in await everybody(site)}
    assert {after[each].state for each in changed} == {"quarantined"}
    assert sum(d.state == "quarantined" for d in after.values()) == len(
        changed | {d.device_id for d in known if d.state == "quarantined"}
    )
    page = (await browser.get(done.headers["location"])).text
    assert f"{len(changed)} of {len(meant)} devices were changed" in page
    async with site.server.context.database.transaction() as session:
        bulk = done.headers["location"].split("/")[-1].split("?")[0]
        entries = (await audit.list_entries(session, subject=bulk)).items
        assert (await audit.verify(session)).intact
    assert {e.because for e in entries} == {"a recall"}
    assert {e.actor for e in entries} == {"test-operator"}
    assert sorted(i for e in entries for i in e.details.get("devices", [])) == sorted(changed)


async def test_a_few_ticked_devices_are_labelled_retired_and_readmitted_each_with_an_entry(site: Site) -> None:
    browser = await site.browser(Role.ADMIN)
    ticked = [("device", f"sim_{n:08d}") for n in (1, 2, 216)]
    token = {"form_token": await form_token(browser)}
    for action, more, state in (
        ("label", {"label": "cell", "value": "north 1"}, None),
        ("label", {"label": "cell", "value": ""}, None),
        ("quarantine", {}, "quarantined"),
        ("readmit", {}, "active"),
        ("retire", {}, "retired"),
    ):
        preview = (
            await browser.get(f"/fleet/actions?{urlencode([('action', action), ('of', 'ticked'), *ticked])}")
        ).text
        body = hidden_of(preview) | token | more | {"reason": f"for {action}", "step": "do"}
        done = await browser.post("/fleet/actions", data=body)
        assert done.status_code == 303, (action, done.text)
        async with site.server.context.database.transaction() as session:
            device = await service.get_device(session, "sim_00000001")
            entries = (await audit.list_entries(session, subject="sim_00000001")).items
        assert entries[0].because == f"for {action}"
        assert state is None or device.state == state
        assert device.labels == {"simulated": True} | ({"cell": "north 1"} if more.get("value") else {})
    for label in ("simulated", "no spaces", ""):
        refused = await browser.post(
            "/fleet/actions",
            data=body | {"reason": "x"} | {"selection": "action=label&of=ticked&device=sim_00000001", "label": label},
        )
        assert refused.status_code == 422, label


async def test_another_selection_by_now_is_looked_at_again(site: Site) -> None:
    browser = await site.browser(Role.OPERATOR)
    preview = (await browser.get("/fleet/actions?action=retire&of=all&site=site-03")).text
    body = hidden_of(preview) | {"form_token": await form_token(browser), "reason": "closing", "step": "do"}
    async with site.server.context.database.transaction() as session:
        await service.add_simulated(session, range(8000, 8001), [], ["arm"], ["site-03"])
    again = await browser.post("/fleet/actions", data=body)
    assert again.status_code == 200
    assert "Look again" in again.text
    assert not any(d.state == "retired" and d.device_id == "sim_00008000" for d in await everybody(site))


@pytest.mark.parametrize("role", [Role.VIEWER, Role.APPROVER, Role.PIPELINE])
async def test_only_operators_act_on_many_and_only_from_their_own_forms(site: Site, role: Role) -> None:
    browser, operator = await site.browser(role), await site.browser(Role.OPERATOR)
    assert (await browser.get("/fleet/actions?action=retire&of=all")).status_code == 403
    body = hidden_of((await operator.get("/fleet/actions?action=retire&of=all")).text)
    body |= {"reason": "no", "step": "do"}
    assert (
        await browser.post("/fleet/actions", data=body | {"form_token": await form_token(browser)})
    ).status_code == 403
    assert (await operator.post("/fleet/actions", data=body)).status_code == 403
    foreign = body | {"form_token": await form_token(browser)}
    assert (await operator.post("/fleet/actions", data=foreign)).status_code == 403
    for query in ("action=explode&of=all", "action=retire&of=ticked", "action=retire"):
        assert (await operator.get(f"/fleet/actions?{query}")).status_code == 422, query
    assert (await operator.get("/fleet/actions/bulk_none")).status_code == 404
    assert "retired" not in {d.state for d in await everybody(site) if d.device_id == "sim_00000001"}


async def test_the_api_filters_alike(site: Site) -> None:
    known = await everybody(site)
    for query, right in (
        ("health=failed", lambda d: d.health == "failed"),
        ("waiting=moving&device_class=cart", lambda d: d.waiting == "moving" and d.device_class == "cart"),
        ("state=quarantined", lambda d: d.state == "quarantined"),
        ("search=sim_000001", lambda d: d.serial.startswith("sim_000001")),
        (f"running={'a' * 64}&site=site-03", lambda d: d.content == "a" * 64 and d.site == "site-03"),
    ):
        items, after = list[str](), ""
        while True:
            page = await site.server.ok("GET", f"/devices?{query}&limit=70{after}")
            items += [item["id"] for item in page["items"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert items == sorted(d.device_id for d in known if right(d)), query
    assert (await site.server.call("GET", "/devices?health=sick")).status_code == 422


async def test_the_plan_draws_every_site_and_every_device(site: Site) -> None:
    browser = await site.browser(Role.VIEWER)
    plan = (await browser.get("/fleet/plan")).text
    assert plan.count('<li class="card') == 7
    one = (await browser.get("/fleet/plan?site=site-03")).text
    here = [d for d in await everybody(site) if d.site == "site-03"]
    assert one.count('href="/fleet/sim_') == len(here)
    troubled = sum(d.health in ("failed", "reverted", "quarantined", "silent") for d in here)
    assert one.count("mark-sign") == troubled
    assert "No device is like that" in (await browser.get("/fleet/plan?site=nowhere")).text
