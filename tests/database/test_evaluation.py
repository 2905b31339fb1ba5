"""Suites and results come in as bytes that prove what they say; the gate judges them once, and counts."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.gatework import SIMULATOR, add, evaluate, judge, line, make_suite, onnx_of
from tests.support.registry import put_model, register, upload
from tests.support.rows import count
from tests.support.server import Server


@pytest.fixture
async def version(server: Server) -> dict[str, Any]:
    return await register(server)


async def test_a_suite_is_taken_once_and_must_be_sound(server: Server, version: dict[str, Any]) -> None:
    first, again = await make_suite(server), await make_suite(server)
    assert (first["digest"], first["scenarios"], first["tags"]) == (again["digest"], 40, {"easy": 40})
    twice = {"scenarios": [{"id": "s1"}, {"id": "s1"}]}
    good = {"schema": "fleetloop.suite/v1", "workload": "w", "suite": "s", "kind": "nominal", "simulator": "x"}
    for change in (twice, {"scenarios": []}, {"scenarios": [{"id": "a"}], "kind": "easy"}, {}, {"schema": "v2"}):
        file = await upload(server, json.dumps(good | change).encode())
        answer = await server.call("POST", "/suites", json={"model": "times", "file": file})
        assert (answer.status_code, answer.json()["code"]) == (422, "malformed"), change
    for data in (b"", b"[]", b"{", b'{"schema": "a", "schema": "b"}'):
        answer = await server.call("POST", "/suites", json={"model": "times", "file": await upload(server, data)})
        assert answer.status_code == 422, data
    assert await count(server, "evaluation_suite") == 1


async def test_an_evaluation_asked_for_again_says_what_is_missing(server: Server, version: dict[str, Any]) -> None:
    suite = await make_suite(server, 10)
    some = await evaluate(server, version, suite, set(), upto=4)
    assert (some["done"], some["missing"]) == (4, [4, 5, 6, 7, 8, 9])
    body = {"content_digest": version["content_digest"], "suite": suite["digest"]}
    asked = await asyncio.gather(*(server.ok("POST", "/evaluations", json=body) for _ in range(3)))
    assert {item["id"] for item in asked} == {some["id"]}
    assert asked[0]["done"] == 4
    for change, status in (({"suite": "0" * 64}, 404), ({"content_digest": "0" * 64}, 404), ({"suite": "x"}, 422)):
        assert (await server.call("POST", "/evaluations", json=body | change)).status_code == status


async def test_results_that_do_not_prove_themselves_are_refused_whole(server: Server, version: dict[str, Any]) -> None:
    suite = await make_suite(server, 10)
    asked = {"content_digest": version["content_digest"], "suite": suite["digest"]}
    evaluation = (await server.ok("POST", "/evaluations", json=asked))["id"]
    model = onnx_of(version)
    good = line(model, 0)
    bad = {
        "evidence of something else": good | {"metrics": {"incident": 1.0}},
        "an evidence digest made up": good | {"evidence_sha256": "0" * 64},
        "another model": line("1" * 64, 1),
        "a scenario nobody planned": line(model, 99),
        "another simulator": line(model, 1, simulator="sim-2"),
        "another status": line(model, 1, status="excellent"),
        "a metric that is no number": line(model, 1, metrics={"incident": "many"}),
        "a seed that no column holds": line(model, 1, seed=2**70),
    }
    for name, wrong in bad.items():
        answer = await add(server, evaluation, [line(model, 2), wrong])
        assert answer.status_code == 422, (name, answer.text)
    for text in (b"{", b"[]", b'{"suite": NaN}', b'{"a": 1, "a": 2}', b"\xff"):
        file = await upload(server, json.dumps(good).encode() + b"\n" + text)
        answer = await server.call("POST", f"/evaluations/{evaluation}/results", json={"job_key": "j", "file": file})
        assert (answer.status_code, answer.json()["code"]) == (422, "malformed"), text
    missing = {"job_key": "j", "file": {"sha256": "0" * 64, "size_bytes": 3}}
    assert (await server.call("POST", f"/evaluations/{evaluation}/results", json=missing)).status_code == 422
    assert await count(server, "evaluation_case") == 0


async def test_a_scenario_counts_once(server: Server, version: dict[str, Any]) -> None:
    suite = await make_suite(server, 3)
    first = await evaluate(server, version, suite, {0})
    model = onnx_of(version)
    again = await add(server, first["id"], [line(model, 0, 0.0), line(model, 0, 1.0), line(model, 1)])
    assert (again.status_code, again.json()["done"]) == (201, 3)
    assert again.json()["means"] == {"incident": pytest.approx(1 / 3)}
    assert await count(server, "evaluation_case") == 3


async def test_no_data_is_inconclusive(server: Server, version: dict[str, Any]) -> None:
    suite = await make_suite(server)
    nothing = await judge(server, version, None, suite)
    assert nothing["verdict"] == "inconclusive"
    await evaluate(server, version, suite, set(), upto=3)
    champion = await register(server, 3.0)
    assert (await judge(server, version, champion, suite))["verdict"] == "inconclusive"


async def test_a_first_model_is_judged_by_its_own_rule(server: Server, version: dict[str, Any]) -> None:
    suite = await make_suite(server)
    worse = await register(server, 3.0)
    await evaluate(server, version, suite, {1, 2})
    await evaluate(server, worse, suite, set(range(30)))
    assert (await judge(server, version, None, suite))["verdict"] == "pass"
    assert (await judge(server, worse, None, suite))["verdict"] == "fail"


async def test_a_candidate_is_judged_against_the_champion(server: Server, version: dict[str, Any]) -> None:
    suite = await make_suite(server, 200)
    equal, worse = await register(server, 3.0), await register(server, 4.0)
    for content, incidents in ((version, {1, 2}), (equal, {1, 3}), (worse, set(range(100)))):
        await evaluate(server, content, suite, incidents)
    passed = await judge(server, equal, version, suite)
    assert passed["verdict"] == "pass", passed["because"]
    assert {(flip["scenario"], flip["broke"]) for flip in passed["flips"]} == {("s2", False), ("s3", True)}
    failed = await judge(server, worse, version, suite)
    assert failed["verdict"] == "fail"
    assert failed["parts"][0]["rule"] == "non_inferior"


async def test_the_same_evidence_is_the_same_gate(server: Server, version: dict[str, Any]) -> None:
    suite = await make_suite(server)
    await evaluate(server, version, suite, set(), upto=20)
    gates = await asyncio.gather(*(judge(server, version, None, suite) for _ in range(4)))
    assert len({gate["id"] for gate in gates}) == 1
    assert gates[0]["attempt"] == 1
    await evaluate(server, version, suite, set())
    more = await judge(server, version, None, suite)
    assert more["id"] != gates[0]["id"]
    assert more["attempt"] == 1  # more evidence about the same version is not another try
    audited = (await server.ok("GET", "/audit?limit=200"))["items"]
    assert sum(entry["action"].startswith("gate.") for entry in audited) == 2


async def test_every_candidate_is_an_attempt(server: Server) -> None:
    suite = await make_suite(server)
    versions = [await register(server, float(scale)) for scale in (2, 3, 4)]
    attempts = [(await judge(server, version, None, suite))["attempt"] for version in versions]
    assert attempts == [1, 2, 3]
    await put_model(server, gate={"parts": [{"suite": "nominal", "rule": "improves"}]})
    again = await judge(server, versions[0], None, suite)
    assert again["attempt"] == 3  # another policy: the two other versions were before the gate already


async def test_a_gate_that_is_not_understood_says_so(server: Server, version: dict[str, Any]) -> None:
    suite = await make_suite(server)
    body = {"model": "times", "candidate": version["content_digest"], "suites": [suite["digest"]]}
    await put_model(server, gate={"parts": [{"suite": "nominal", "rule": "hope"}]})
    for path in ("/gates", "/gates/stop"):
        answer = await server.call("POST", path, json=body)
        assert answer.status_code == 422, (path, answer.text)
    await put_model(server)
    same_name = await make_suite(server, 41)
    for suites in ([suite["digest"]] * 2, [suite["digest"], same_name["digest"]]):
        answer = await server.call("POST", "/gates", json=body | {"suites": suites})
        assert answer.status_code == 422, answer.text
    for change in ({"candidate": "0" * 64}, {"suites": ["0" * 64]}, {"model": "nobody"}):
        assert (await server.call("POST", "/gates", json=body | change)).status_code == 404, change


async def test_the_gate_says_when_it_has_seen_enough(server: Server, version: dict[str, Any]) -> None:
    suite = await make_suite(server)
    body = {"model": "times", "candidate": version["content_digest"], "suites": [suite["digest"]]}
    assert [stop["enough"] for stop in await server.ok("POST", "/gates/stop", json=body)] == [False]
    await evaluate(server, version, suite, set())
    assert [stop["enough"] for stop in await server.ok("POST", "/gates/stop", json=body)] == [True]
    assert suite["simulator"] == SIMULATOR
