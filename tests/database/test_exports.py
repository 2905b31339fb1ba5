"""What is exported is what is known, and what others' schemas and readers take."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from agents.protocol.v1 import strict_json
from agents.protocol.v1.statement import PROVENANCE, Provenance
from control_plane.kit.db import execute
from control_plane.kit.roles import Role
from control_plane.kit.signing import load_signer
from control_plane.registry.service import KeyPlan
from tests.browser.seed import Seeded, seed
from tests.database.test_attestations import trained
from tests.support import openlineage
from tests.support.live import serve
from tests.support.registry import register
from tests.support.server import Server, open_server
from tests.support.trust import provenance
from tests.support.tuf import make_home


@pytest.fixture
async def loop(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Server, Seeded]]:
    async with open_server(database_url, tmp_path) as server:
        yield server, await seed(server.context, devices=6, history=2, canary=2)


async def text(server: Server, kind: str, name: str, form: str, role: Role = Role.VIEWER, **query: Any) -> str:
    answer = await server.call("GET", f"/lineage/{kind}/{name}/export", role, params={"format": form, **query})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    return answer.text


async def run_events(server: Server, kind: str, name: str, **query: Any) -> list[dict[str, Any]]:
    lines = (await text(server, kind, name, "openlineage", **query)).splitlines()
    return [json.loads(line) for line in lines]


async def test_run_events_hold_to_openlineages_schemas_and_join(loop: tuple[Server, Seeded]) -> None:
    server, made = loop
    first, bad, good = made.versions
    events = await run_events(server, "model_version", good.content_digest)
    assert sum(openlineage.check(event) for event in events) > len(events)
    ends = [event for event in events if event["eventType"] == "COMPLETE"]
    assert {event["job"]["name"].split(".")[0] for event in ends} == {"curate", "train", "evaluate", "gate", "register"}
    assert {event["run"]["runId"] for event in events} == {event["run"]["runId"] for event in ends}
    written = {out["name"] for event in ends for out in event["outputs"]}
    read = {given["name"] for event in ends for given in event["inputs"]}
    for name in ("incidents@", f"{good.model}@1", f"{good.model}@{good.version}"):
        assert any(name in each for each in written & read), name
    assert any(each.startswith("recordings/") for each in read)
    assert await run_events(server, "model_version", good.content_digest) == events
    assert all(not event["inputs"] for event in events if event["eventType"] == "START")
    tests = next(event["run"]["facets"]["test"] for event in ends if event["job"]["name"].startswith("gate."))
    assert {test["status"] for test in tests["tests"]} <= {"pass", "fail", "skip"}
    everything = {event["run"]["runId"] for event in events}
    everything |= {each["run"]["runId"] for each in await run_events(server, "model_version", first.content_digest)}
    for kind, name in (
        ("recording", made.recordings[0]),
        ("rollout", made.rollouts[-1]),
        ("device", made.robots[0].who.id),
        ("model_version", bad.content_digest),
    ):
        runs = {event["run"]["runId"] for event in await run_events(server, kind, name)}
        assert runs, kind
        assert runs <= everything, kind


async def test_a_statement_names_files_data_and_parent(loop: tuple[Server, Seeded]) -> None:
    server, made = loop
    first, _, good = made.versions
    said = await text(server, "model_version", good.content_digest, "in-toto")
    plain = strict_json(said.encode(), 1 << 20)
    assert (plain["_type"], plain["predicateType"]) == ("https://in-toto.io/Statement/v1", PROVENANCE)
    subjects = {each["digest"]["sha256"] for each in plain["subject"]}
    assert subjects == {good.content_digest} | {file["sha256"] for file in good.content["files"]}
    predicate = Provenance.model_validate(plain["predicate"])
    named = {each.digest["sha256"]: each.name for each in predicate.build_definition.resolved_dependencies}
    assert (named[good.dataset or ""], named[first.content_digest]) == ("dataset", "parent")
    assert set(made.recordings) <= set(named)
    assert plain["predicate"]["buildDefinition"]["internalParameters"]["saidByTrainer"] is False
    for kind, name in (("gate", made.gates[-1].id), ("rollout", made.rollouts[-1])):
        assert await text(server, kind, name, "in-toto") == said
    bare = json.loads(await text(server, "model_version", first.content_digest, "in-toto"))
    assert bare["predicate"]["buildDefinition"]["buildType"].endswith("registration:v1")


async def test_what_a_trainer_signed_is_told_as_it_was_signed(database_url: str, tmp_path: Path) -> None:
    ada = load_signer(tmp_path / "people", "ada")
    make_home(tmp_path / "home", KeyPlan(approvers={"ada": ada.public_hex}, approval_threshold=1, warned_threshold=1))
    async with serve(database_url, tmp_path / "home") as live:
        version = await trained(live, tmp_path)
        plain = json.loads(await text(live.server, "model_version", version["content_digest"], "in-toto"))
    told, signed = plain["predicate"], provenance().model_dump(mode="json", by_alias=True, exclude_none=True)
    assert told["buildDefinition"]["internalParameters"]["saidByTrainer"] is True
    assert len(told["buildDefinition"]["internalParameters"]["attestations"]) == 1
    for part in ("buildType", "externalParameters", "resolvedDependencies"):
        assert told["buildDefinition"][part] == signed["buildDefinition"][part], part
    assert told["runDetails"]["builder"] == signed["runDetails"]["builder"]


async def test_what_a_trainer_signed_and_cannot_be_read_is_no_silence(database_url: str, tmp_path: Path) -> None:
    ada = load_signer(tmp_path / "people", "ada")
    make_home(tmp_path / "home", KeyPlan(approvers={"ada": ada.public_hex}, approval_threshold=1, warned_threshold=1))
    async with serve(database_url, tmp_path / "home") as live:
        version = await trained(live, tmp_path)
        async with live.server.context.database.transaction() as session:
            await execute(session, "update registry_attestation set envelope = '{}'::bytea")
        path = f"/lineage/model_version/{version['content_digest']}/export?format=in-toto"
        answer = await live.server.call("GET", path)
    assert answer.status_code == 500
    assert "saidByTrainer" not in answer.text


async def test_those_who_train_see_nothing_of_hidden_suites(loop: tuple[Server, Seeded]) -> None:
    server, made = loop
    digest = made.versions[-1].content_digest
    async with server.context.database.transaction() as session:
        await execute(session, "update evaluation_suite set kind = 'holdout' where name = 'nominal'")
    for form in ("cyclonedx", "openlineage"):
        open_ = await text(server, "model_version", digest, form, Role.VIEWER)
        dark = await text(server, "model_version", digest, form, Role.PIPELINE)
        assert open_.count("duration_s") > dark.count("duration_s"), form


async def test_a_bill_of_materials_is_valid_and_tells_the_gate(loop: tuple[Server, Seeded]) -> None:
    server, made = loop
    first, _, good = made.versions
    for version in made.versions:
        bill = await text(server, "model_version", version.content_digest, "cyclonedx")
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
        assert await text(server, "model_version", version.content_digest, "cyclonedx") == bill
    plain = json.loads(await text(server, "model_version", good.content_digest, "cyclonedx"))
    model = plain["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["pedigree"]["ancestors"][0]["hashes"][0]["content"] == first.content_digest
    by_type = {kind: [c for c in plain["components"] if c["type"] == kind] for kind in ("file", "data")}
    assert {file["hashes"][0]["content"] for file in by_type["file"]} == {f["sha256"] for f in good.content["files"]}
    assert all(each["data"][0]["type"] == "dataset" for each in by_type["data"])
    card = model["modelCard"]
    refs = {each["ref"] for each in card["modelParameters"]["datasets"]}
    assert refs == {each["bom-ref"] for each in by_type["data"]}
    metrics = card["quantitativeAnalysis"]["performanceMetrics"]
    assert any(metric["type"].startswith("mean ") for metric in metrics)
    assert made.gates[-1].because[:100] in card["considerations"]["technicalLimitations"][0]


async def test_what_cannot_be_exported_says_why(server: Server) -> None:
    version = await register(server)
    digest = version["content_digest"]
    for path, status, code in (
        (f"/lineage/model_version/{digest}/export?format=spdx", 422, "invalid"),
        (f"/lineage/model_version/{digest}/export", 422, "invalid"),
        (f"/lineage/planet/{digest}/export?format=in-toto", 422, "invalid"),
        ("/lineage/device/dev_1/export?format=in-toto", 422, "export_not_of_a_version"),
        ("/lineage/device/dev_1/export?format=openlineage", 404, "not_found"),
        (f"/lineage/model_version/{'0' * 64}/export?format=cyclonedx", 404, "not_found"),
        (f"/lineage/release/{'0' * 64}/export?format=in-toto", 404, "not_found"),
    ):
        answer = await server.call("GET", path)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
    bill = await text(server, "model_version", digest, "cyclonedx")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    assert "No gate has judged this version." in bill
