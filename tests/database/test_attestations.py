"""From a gate's decision to a release that devices would take: real keys, real signatures, the worker's handlers."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agents.protocol.v1.admission import read_bundle
from agents.protocol.v1.dsse import seal_envelope
from agents.protocol.v1.statement import PROVENANCE, STATEMENT_PAYLOAD, Result, read_statement, statement_bytes
from agents.protocol.v1.trust import attestations_path, release_path
from control_plane.cli.approvals import Wish, sign_approvals
from control_plane.evaluation.domain import Verdict, result_of
from control_plane.kit import outbox
from control_plane.kit.db import execute
from control_plane.kit.roles import Role
from control_plane.kit.signing import Signer, load_signer, read_signer
from control_plane.registry.schemas import ReleaseItem
from control_plane.registry.service import KeyPlan
from control_plane.rollout import reconcile
from control_plane.worker import handlers_of
from tests.support.gatework import evaluate, judge, make_suite
from tests.support.live import Live, serve
from tests.support.registry import register, release
from tests.support.trust import provenance
from tests.support.tuf import TufClient, make_home

PEOPLE = ("ada", "bo", "cy")


def person(tmp_path: Path, name: str) -> Signer:
    return load_signer(tmp_path / "people", name)


@pytest.fixture
async def live(database_url: str, tmp_path: Path) -> AsyncIterator[Live]:
    people = {name: person(tmp_path, name).public_hex for name in PEOPLE}
    make_home(tmp_path / "home", KeyPlan(approvers=people, approval_threshold=2, warned_threshold=3))
    async with serve(database_url, tmp_path / "home") as served:
        yield served


async def work(live: Live) -> None:
    """Be the worker: hand over everything that is due."""
    while await outbox.dispatch(live.server.context.database, handlers_of(live.server.context)):
        pass


async def trained(live: Live, tmp_path: Path, scale: float = 2.0) -> dict[str, Any]:
    version = await register(live.server, scale)
    trainer = read_signer(tmp_path / "home" / "keys" / "online" / "trainer.pem")
    statement = statement_bytes("times", version["content_digest"], PROVENANCE, provenance(datetime.now(UTC)))
    await hand_in(live, statement, trainer.private)
    return version


async def hand_in(live: Live, statement: bytes, key: Ed25519PrivateKey) -> Any:
    text = seal_envelope(STATEMENT_PAYLOAD, statement, [key]).model_dump_json(by_alias=True)
    return await live.server.call("POST", "/attestations", Role.PIPELINE, json={"envelope": text})


async def gated(live: Live, version: dict[str, Any], incidents: set[int], **more: Any) -> dict[str, Any]:
    suite = await make_suite(live.server)
    await evaluate(live.server, version, suite, incidents)
    return await judge(live.server, version, None, suite, device_classes=["cart"], **more)


async def approve(live: Live, tmp_path: Path, digest: str, *names: str, **terms: Any) -> None:
    import asyncio  # noqa: PLC0415 - the client is synchronous

    def sign() -> None:
        client = live.client(Role.APPROVER)
        try:
            for name in names:
                sign_approvals(client, client.get_release(digest), person(tmp_path, name), Wish(name, **terms))
        finally:
            client.close()

    await asyncio.to_thread(sign)
    await work(live)


async def seen(live: Live, digest: str) -> ReleaseItem:
    return ReleaseItem.model_validate(await live.server.ok("GET", f"/releases/{digest}"))


async def test_a_release_is_published_once_all_have_signed(live: Live, tmp_path: Path) -> None:
    version = await trained(live, tmp_path)
    made = await release(live.server, version["content_digest"])
    await work(live)
    assert "no gate" in (await seen(live, made["digest"])).waits_for
    await gated(live, version, set())
    await work(live)
    assert "0 of 2" in (await seen(live, made["digest"])).waits_for
    await approve(live, tmp_path, made["digest"], "ada")
    assert "1 of 2" in (await seen(live, made["digest"])).waits_for
    assert (await seen(live, made["digest"])).published_revision is None
    await approve(live, tmp_path, made["digest"], "bo")
    item = await seen(live, made["digest"])
    assert item.published_revision is not None
    assert item.waits_for == ""
    root = (tmp_path / "home" / "keys" / "signed" / "1.root.json").read_bytes()
    paths = release_path(made["digest"]), attestations_path(made["digest"])
    found = await TufClient(live.url, tmp_path / "client", root).fetch(*paths)
    assert found[paths[0]] is not None
    assert len(read_bundle(found[paths[1]] or b"")) == 4


async def test_signatures_of_nobody_who_counts_are_refused(live: Live, tmp_path: Path) -> None:
    version = await trained(live, tmp_path)
    statement = statement_bytes("times", version["content_digest"], PROVENANCE, provenance(datetime.now(UTC)))
    for key in (Ed25519PrivateKey.generate(), person(tmp_path, "ada").private):
        answer = await hand_in(live, statement, key)
        assert (answer.status_code, answer.json()["code"]) == (422, "attestation_refused")
    for text in ("", "{}", '{"payloadType":"x","payload":"","signatures":[]}', "[" * 10_000):
        answer = await live.server.call("POST", "/attestations", Role.PIPELINE, json={"envelope": text})
        assert answer.status_code == 422, text[:20]
    assert (await live.server.call("POST", "/attestations", Role.VIEWER, json={"envelope": "{}"})).status_code == 403


async def test_attestations_are_kept_as_the_exact_bytes(live: Live, tmp_path: Path) -> None:
    version = await trained(live, tmp_path)
    held = await live.server.ok("GET", f"/attestations/{version['content_digest']}")
    again = await live.server.ok("POST", "/attestations", Role.PIPELINE, json={"envelope": held[0]["envelope"]})
    assert again == held[0]
    assert len(await live.server.ok("GET", f"/attestations/{version['content_digest']}")) == 1


async def test_the_gate_signs_for_the_evidence_that_was_kept(live: Live, tmp_path: Path) -> None:
    version = await trained(live, tmp_path)
    gate = await gated(live, version, set())
    await work(live)
    held = [
        read_statement_of(each) for each in await live.server.ok("GET", f"/attestations/{version['content_digest']}")
    ]
    [said] = [each.predicate for each in held if "test-result" in each.predicate_type]
    assert {item.name: item.digest["sha256"] for item in said.configuration} == {
        "evidence": gate["evidence_sha256"],
        "policy": gate["policy_digest"],
        "suite:nominal": gate["evidence"]["suites"][0],
    }
    assert (await live.server.ok("POST", f"/gates/{gate['id']}/replay"))["same"]


async def test_a_failed_gate_is_never_published_however_many_sign(live: Live, tmp_path: Path) -> None:
    version = await trained(live, tmp_path)
    gate = await gated(live, version, set(range(35)))
    assert gate["verdict"] == "fail"
    made = await release(live.server, version["content_digest"])
    await work(live)
    await approve(live, tmp_path, made["digest"], *PEOPLE, accept_warning=True)
    item = await seen(live, made["digest"])
    assert item.published_revision is None
    assert item.waits_for == "the gate said FAILED"


def test_what_the_gate_signs_for() -> None:
    guard, claim = {"rule": "non_inferior"}, {"rule": "improves"}
    passed, failed, open_ = {"verdict": "pass"}, {"verdict": "fail"}, {"verdict": "inconclusive"}
    assert result_of(Verdict.PASS, [guard | passed]) is Result.PASSED
    assert result_of(Verdict.FAIL, [guard | passed, claim | failed]) is Result.WARNED
    assert result_of(Verdict.INCONCLUSIVE, [guard | passed, claim | open_]) is Result.WARNED
    assert result_of(Verdict.FAIL, [guard | failed, claim | passed]) is Result.FAILED
    assert result_of(Verdict.INCONCLUSIVE, [guard | open_, claim | passed]) is None
    assert result_of(Verdict.INCONCLUSIVE, []) is None


async def test_the_way_back_is_cut_with_the_rollout_and_approved_with_it(live: Live, tmp_path: Path) -> None:
    first = await trained(live, tmp_path)
    await gated(live, first, set())
    await baseline(live, tmp_path, first)
    second = await trained(live, tmp_path, 3.0)
    made = await release(live.server, second["content_digest"])
    rollout = await roll_out(live, made["digest"])
    back = await seen(live, rollout["restore_release"])
    assert (back.way_back_of, back.content_digest) == (made["digest"], first["content_digest"])
    assert back.counter > made["counter"]
    await work(live)
    await approve(live, tmp_path, made["digest"], "ada", "bo", widest_stage=0.25)
    back = await seen(live, back.digest)
    assert back.published_revision is not None, back.waits_for
    said = [read_statement_of(each) for each in await live.server.ok("GET", f"/attestations/{back.digest}")]
    approvals = [each.predicate for each in said if each.predicate_type.startswith("urn:")]
    assert [(each.way_back, each.widest_stage) for each in approvals] == [(True, 1.0), (True, 1.0)]
    assert (await live.server.ok("GET", f"/rollouts/{rollout['id']}"))["phase"] == "waiting_approval"
    await reconcile.tick(live.server.context)
    because = (await live.server.ok("GET", f"/rollouts/{rollout['id']}"))["because"]
    assert "devices would refuse it" in because or "approvals" in because


def read_statement_of(item: dict[str, Any]) -> Any:
    import base64  # noqa: PLC0415 - only here
    import json  # noqa: PLC0415 - only here

    return read_statement(base64.b64decode(json.loads(item["envelope"])["payload"]))


async def roll_out(live: Live, digest: str) -> dict[str, Any]:
    plan = {"stages": [{"fraction": 1.0, "must_prove": False}], "gravest": "off"}
    body = {"release": digest, "plan": plan, "override_reason": "a test"}
    made: dict[str, Any] = await live.server.ok("POST", "/rollouts", json=body)
    await reconcile.tick(live.server.context)
    return made


async def baseline(live: Live, tmp_path: Path, version: dict[str, Any]) -> None:
    """Make a version what the class runs, as a finished rollout does."""
    made = await release(live.server, version["content_digest"])
    await work(live)
    await approve(live, tmp_path, made["digest"], "ada", "bo")
    async with live.server.context.database.transaction() as session:
        from control_plane.rollout import store  # noqa: PLC0415 - a test looks inside

        values = {"release": made["digest"], "content_digest": version["content_digest"], "counter": made["counter"]}
        await store.put_baseline(session, "cart", values | {"since": datetime.now(UTC)})
        await execute(session, "select pg_notify('fleetloop_rollout', '')")  # as the reconciler does
