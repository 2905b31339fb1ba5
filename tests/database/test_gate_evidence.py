"""All that decided is kept under its digest and decides the same again; what would wear the gate out is counted."""

import json
from typing import Any

import pytest

from agents.protocol.v1 import canonical_json, sha256_hex
from control_plane.evaluation.domain import fingerprint
from control_plane.kit import outbox
from control_plane.kit.db import execute
from control_plane.kit.roles import Role
from control_plane.worker import handlers_of
from tests.support.bundle import bundle
from tests.support.device import event, window
from tests.support.gatework import add, evaluate, judge, line, make_suite, onnx_of
from tests.support.registry import register, upload_all
from tests.support.rows import count
from tests.support.server import Server

NO_WORSE = {"suite": "nominal", "rule": "non_inferior", "margin": 0.2}


@pytest.fixture
async def champion(server: Server) -> dict[str, Any]:
    return await register(server, 2.0)


@pytest.fixture
async def candidate(server: Server) -> dict[str, Any]:
    return await register(server, 3.0)


async def judged(server: Server, candidate: Any, champion: Any, *, broke: set[int] | None = None) -> dict[str, Any]:
    suite = await make_suite(server)
    await evaluate(server, champion, suite, set())
    await evaluate(server, candidate, suite, broke or set())
    return await judge(server, candidate, champion, suite)


async def settle(server: Server) -> None:
    """Be the worker: hand over everything that is due but signatures, which this installation has no keys for."""
    handlers = {topic: handler for topic, handler in handlers_of(server.context).items() if topic == "review.closed"}
    while await outbox.dispatch(server.context.database, handlers):
        pass


async def stored(server: Server, gate: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await server.context.objects.read(gate["evidence_sha256"]))
    return found


async def test_what_decided_is_one_file_named_by_its_digest(server: Server, candidate: Any, champion: Any) -> None:
    gate = await judged(server, candidate, champion)
    data = await server.context.objects.read(gate["evidence_sha256"])
    assert sha256_hex(data) == gate["evidence_sha256"]
    kept = json.loads(data)
    assert canonical_json(kept) == data
    assert (kept["decision"]["verdict"], kept["decision"]["because"]) == (gate["verdict"], gate["because"])
    [suite] = kept["suites"]
    assert len(suite["scenarios"]) == len(suite["candidate"]["results"]) == len(suite["champion"]["results"]) == 40
    assert {r["seed"] for r in suite["candidate"]["results"]} == set(range(40))
    assert all(len(r["evidence_sha256"]) == 64 for r in suite["champion"]["results"])
    assert suite["scenarios"][0]["tags"] == ["easy"]
    head = kept["head"]
    assert head["policy_digest"] == gate["policy_digest"]
    assert (len(head["code_sha256"]), head["suites"]["nominal"]["simulator"]) == (64, "sim-1")


async def test_a_gate_decided_again_is_the_same(server: Server, candidate: Any, champion: Any) -> None:
    gate = await judged(server, candidate, champion, broke={1, 2})
    again = await server.ok("POST", f"/gates/{gate['id']}/replay", Role.VIEWER)
    assert (again["same"], again["same_code"], again["differences"]) == (True, True, [])
    assert again["verdict"] == gate["verdict"] == again["stored_verdict"]
    assert (await server.call("POST", "/gates/gate_none/replay")).status_code == 404


async def test_evidence_that_was_changed_or_lost_is_noticed(server: Server, candidate: Any, champion: Any) -> None:
    gate = await judged(server, candidate, champion)
    kept = await stored(server, gate)
    kept["suites"][0]["candidate"]["results"][0]["metrics"]["incident"] = 1.0
    other = await server.context.objects.put_bytes(canonical_json(kept))
    await point(server, gate, other.sha256)
    changed = await server.ok("POST", f"/gates/{gate['id']}/replay")
    assert not changed["same"]
    assert any("candidate_failures: was 0, is now 1" in found for found in changed["differences"])
    await point(server, gate, "0" * 64)
    for digest, said in (("0" * 64, "is lost"), ("", "before evidence was kept")):
        await point(server, gate, digest)
        answer = await server.call("POST", f"/gates/{gate['id']}/replay")
        assert (answer.status_code, said in answer.json()["detail"]) == (422, True)
    strange = await server.context.objects.put_bytes(canonical_json(kept | {"schema": "v9"}))
    await point(server, gate, strange.sha256)
    unread = await server.ok("POST", f"/gates/{gate['id']}/replay")
    assert (unread["same"], unread["verdict"]) == (False, None)


async def point(server: Server, gate: dict[str, Any], digest: str) -> None:
    async with server.context.database.transaction() as session:
        statement = "update evaluation_gate set evidence_sha256 = :digest where id = :id"
        await execute(session, statement, digest=digest, id=gate["id"])


async def test_a_repeat_changes_nothing_and_a_different_one_is_shown(
    server: Server, candidate: Any, champion: Any
) -> None:
    suite = await make_suite(server)
    made = await evaluate(server, candidate, suite, set())
    same = await add(server, made["id"], [line(onnx_of(candidate), n) for n in range(40)])
    assert same.json()["nondeterminism"] == []
    other = await add(server, made["id"], [line(onnx_of(candidate), 3, 1.0), line(onnx_of(candidate), 4)])
    assert other.json()["nondeterminism"] == ["s3"]
    assert other.json()["means"] == {"incident": 0.0}
    await evaluate(server, champion, suite, set())
    gate = await judge(server, candidate, champion, suite)
    assert gate["evidence"]["nondeterminism"] == {"nominal": ["s3"]}
    assert (await stored(server, gate))["head"]["nondeterminism"] == {"nominal": ["s3"]}


async def test_looks_at_a_suite_are_counted_by_candidate(server: Server, champion: Any) -> None:
    suite = await make_suite(server)
    await evaluate(server, champion, suite, set())
    found = []
    for scale in (3.0, 4.0):
        version = await register(server, scale)
        await evaluate(server, version, suite, set())
        found.append((await judge(server, version, champion, suite))["looks"])
    assert found == [{suite["digest"]: 1}, {suite["digest"]: 2}]


async def test_suites_of_a_name_have_versions(server: Server, champion: Any) -> None:
    one, two, again = await make_suite(server), await make_suite(server, 41), await make_suite(server)
    assert [s["version"] for s in (one, two, again)] == [1, 2, 1]


async def test_a_hidden_suite_shows_the_pipeline_nothing_and_wears_out(server: Server, champion: Any) -> None:
    hidden = {"suite": "hidden", "rule": "non_inferior", "margin": 0.2}
    suite = await make_suite(server, name="hidden", kind="holdout")
    await evaluate(server, champion, suite, set())
    verdicts, gates = [], []
    for scale, broke in ((3.0, set(range(30))), (4.0, set[int]()), (5.0, set[int]())):
        version = await register(server, scale, gate={"holdout_budget": 2, "parts": [hidden]})
        made = await evaluate(server, version, suite, broke)
        gates.append(await judge(server, version, champion, suite))
        verdicts.append(gates[-1]["verdict"])
    assert verdicts == ["fail", "pass", "inconclusive"]
    assert "its budget is 2" in gates[2]["because"]
    assert await count(server, "evaluation_holdout_use") == 2
    answer = await server.call("GET", f"/evaluations/{made['id']}/cases", Role.PIPELINE)
    assert answer.status_code == 403
    assert len(await server.ok("GET", f"/evaluations/{made['id']}/cases", Role.VIEWER)) == 40
    assert (await server.ok("GET", f"/evaluations/{made['id']}", Role.PIPELINE))["means"] == {}
    seen = await server.ok("GET", f"/gates/{gates[0]['id']}", Role.PIPELINE)
    assert (seen["flips"], seen["parts"][0]["figures"], "s1" in seen["because"]) == ([], {}, False)
    assert len(gates[0]["flips"]) == 30


async def test_a_hidden_suite_keeps_its_first_answer(server: Server, champion: Any) -> None:
    hidden = {"suite": "hidden", "rule": "non_inferior", "margin": 0.2}
    version = await register(server, 3.0, gate={"parts": [hidden]})
    suite = await make_suite(server, name="hidden", kind="holdout")
    await evaluate(server, champion, suite, set(), upto=20)
    await evaluate(server, version, suite, set(), upto=10)
    first = await judge(server, version, champion, suite)
    await evaluate(server, champion, suite, set())
    await evaluate(server, version, suite, set())
    again = await judge(server, version, champion, suite)
    assert (first["verdict"], again["verdict"]) == ("inconclusive", "inconclusive")
    assert again["parts"] == first["parts"]
    assert (await server.ok("POST", f"/gates/{again['id']}/replay"))["same"]


def clip(event: str, split: str = "train", **more: Any) -> dict[str, Any]:
    recording = sha256_hex(event.encode())
    base = {"recording": recording, "size_bytes": 5, "event_id": event, "trigger": "collision", "group": event}
    return base | {"split": split} | more


async def test_what_was_trained_on_blocks_promotion(server: Server) -> None:
    near = {"aisle_m": 3.1234, "seed": 1, "range_noise_m": 0.3}
    scenarios = [
        {"id": "s0", "cluster": "ev-1"},
        {"id": "s1", "cluster": "ev-2"},
        {"id": "s2", "source": "ev-3", "cluster": "x"},
        {"id": "s3", "params": {"aisle_m": 3.1201, "seed": 9, "range_noise_m": 0.9}},
        {"id": "s4", "params": {"aisle_m": 3.9, "seed": 1}},
    ]
    suite = await make_suite(server, kind="regression", scenarios=scenarios)
    clips = [clip("ev-1"), clip("ev-2", "holdout"), clip("ev-3"), clip("ev-9", fingerprint=fingerprint(near))]
    body = {"name": "d", "query": {}, "code": "c", "clips": clips}
    dataset = await server.ok("POST", "/datasets", json=body)
    version = await register(server, 7.0, gate={"parts": [{"rule": "no_overlap"}, NO_WORSE]})
    said = await judge(server, version, version, suite)
    assert "nobody knows" in said["parts"][0]["because"]
    learned = await with_dataset(server, 8.0, dataset["digest"])
    said = await judge(server, learned, version, suite)
    assert (said["verdict"], said["parts"][0]["verdict"]) == ("fail", "fail")
    assert said["parts"][0]["figures"] == {"overlaps": 3}
    for name in ("s0 (trained on ev-1)", "s2 (trained on ev-3)", "s3 (nearly"):
        assert name in said["parts"][0]["because"]
    child = await with_dataset(server, 9.0, None, parent=learned["content_digest"], training="t")
    assert (await judge(server, child, version, suite))["parts"][0]["verdict"] == "fail"  # an ancestor saw it


async def with_dataset(server: Server, scale: float, dataset: str | None, **more: Any) -> dict[str, Any]:
    body = {"files": await upload_all(server, bundle(scale)), "dataset": dataset, **more}
    made: dict[str, Any] = await server.ok("POST", "/models/times/versions", json=body)
    return made


async def test_people_answer_for_flips_and_the_gate_is_asked_again(server: Server, champion: Any) -> None:
    rules = {"grave": ["incident"], "parts": [NO_WORSE, {"rule": "reviews_closed"}]}
    version = await register(server, 3.0, gate=rules)
    gate = await judged(server, version, champion, broke={5})
    assert (gate["verdict"], gate["parts"][0]["verdict"]) == ("inconclusive", "pass")
    [question] = (await server.ok("GET", "/reviews?state=open"))["items"]
    assert (question["kind"], question["needed"]) == ("gate_flip", 2)
    assert question["evidence"]["candidate"] == version["content_digest"]
    assert question["evidence"]["scenarios"] == [{"suite": "nominal", "scenario": "s5", "seed": 5}]
    suite = await make_suite(server)
    again = await judge(server, version, champion, suite)
    assert again["id"] == gate["id"]  # nothing new: the same gate, and nobody is asked twice
    for role in (Role.APPROVER, Role.ADMIN):
        await server.ok("POST", f"/reviews/{question['id']}/answers", role, json={"approves": True})
    await settle(server)
    newest = (await server.ok("GET", "/gates"))["items"][0]
    assert (newest["verdict"], newest["attempt"]) == ("pass", gate["attempt"])
    assert (await server.ok("POST", f"/gates/{newest['id']}/replay"))["same"]


async def test_a_no_fails_the_gate(server: Server, champion: Any) -> None:
    version = await register(server, 3.0, gate={"parts": [{"rule": "reviews_closed"}]})
    await judged(server, version, champion, broke={5})
    [question] = (await server.ok("GET", "/reviews?state=open"))["items"]
    await server.ok("POST", f"/reviews/{question['id']}/answers", Role.APPROVER, json={"approves": False})
    await settle(server)
    newest = (await server.ok("GET", "/gates"))["items"][0]
    assert (newest["verdict"], "people said no" in newest["because"]) == ("fail", True)


async def test_incidents_count_once_they_happen_again(server: Server, champion: Any, candidate: Any) -> None:
    guilty = champion["content_digest"]
    for source, failures, state in (("e0", 3, "reproduces"), ("e1", 1, "flaky"), ("e2", 0, "not_reproduced")):
        body = {"guilty": guilty, "seeds": 3, "failures": failures}
        made = await server.ok("PUT", f"/models/times/scenarios/{source}", Role.PIPELINE, json=body)
        assert made["state"] == state
    impossible = {"guilty": guilty, "seeds": 3, "failures": 4}
    assert (await server.call("PUT", "/models/times/scenarios/e9", json=impossible)).status_code == 422
    scenarios = [{"id": f"s{n}", "seed": n, "cluster": f"e{n}"} for n in range(40)]
    suite = await make_suite(server, kind="regression", scenarios=scenarios)
    for version in (champion, candidate):
        await evaluate(server, version, suite, set())
    said = await judge(server, candidate, champion, suite)
    assert said["parts"][0]["figures"]["incidents_left_out"] == 2
    assert said["parts"][0]["figures"]["planned"] == 38
    wish = {"action": "accept", "reason": "it matters"}
    kept = await server.ok("POST", "/models/times/scenarios/e1/wishes", Role.APPROVER, json=wish)
    assert (kept["state"], kept["because"]) == ("accepted", "it matters")
    body = {"guilty": guilty, "seeds": 3, "failures": 0}
    assert (await server.ok("PUT", "/models/times/scenarios/e1", json=body))["state"] == "accepted"
    assert (await judge(server, candidate, champion, suite))["parts"][0]["figures"]["incidents_left_out"] == 1
    assert [s["source"] for s in await server.ok("GET", "/models/times/scenarios")] == ["e0", "e1", "e2"]
    assert (await server.call("POST", "/models/times/scenarios/e7/wishes", json=wish)).status_code == 404


async def test_a_plan_says_what_each_part_needs(server: Server, champion: Any) -> None:
    await make_suite(server, 40)
    [part] = await server.ok("POST", "/gates/plan", Role.VIEWER, json={"model": "times"})
    assert (part["planned"], part["needed"], part["enough"]) == (40, 34, True)
    assert 20 <= part["typical"] <= 34
    strict = {"parts": [{**NO_WORSE, "margin": 0.01}, {"suite": "x", "rule": "improves"}]}
    body = {"model": "times", "policy": strict, "assumptions": {"broke": 0.01, "fixed": 0.01}}
    small, absent = await server.ok("POST", "/gates/plan", json=body)
    assert (small["enough"], small["needed"] > 1000, absent["because"]) == (False, True, "there is no such suite yet")
    bad = await server.call("POST", "/gates/plan", json={"model": "times", "policy": {"parts": [{"rule": "hope"}]}})
    assert bad.status_code == 422


async def test_another_policy_is_tried_on_all_kept_evidence(server: Server, champion: Any) -> None:
    for scale, broke in ((3.0, set[int]()), (4.0, set(range(20)))):
        await judged(server, await register(server, scale), champion, broke=broke)
    body = {"policy": {"parts": [{**NO_WORSE, "margin": 0.01}]}}
    found = await server.ok("POST", "/gates/backtest", Role.VIEWER, json=body)
    assert (found["gates"], found["skipped"]) == (2, 0)
    assert (found["false_block"]["hits"], found["false_block"]["of"]) == (1, 1)
    assert (found["false_pass"]["hits"], found["false_pass"]["of"], found["false_pass"]["low"]) == (0, 1, 0.0)
    assert {entry["by"] for entry in found["lines"]} == {"gate"}
    assert (await server.call("POST", "/gates/backtest", json={"policy": {}})).status_code == 422


async def drive(server: Server, device: Any, content: str, seq: int, **counts: int) -> None:
    answer = await device.telemetry(windows=[window(seq, content, 10_000.0, **counts)], stream=f"s{seq}")
    assert answer.status_code == 200, answer.text


async def test_predictions_are_set_against_the_field(server: Server, device: Any, champion: Any) -> None:
    rule = {"suite": "drives", "rule": "improves"}
    suite = await make_suite(server, 60, name="drives", kind="field")
    await evaluate(server, champion, suite, set(range(30)))
    await drive(server, device, champion["content_digest"], 1, collision=300)
    for place, (scale, failures, collisions) in enumerate(((3.0, 10, 110), (4.0, 20, 190), (5.0, 5, 290)), 2):
        version = await register(server, scale, gate={"parts": [rule]})
        await evaluate(server, version, suite, set(range(failures)))
        await judge(server, version, champion, suite)
        await drive(server, device, version["content_digest"], place, collision=collisions)
    found = await server.ok("GET", "/models/times/prediction", Role.VIEWER)
    by_failures = sorted(found["releases"], key=lambda release: release["predicted"]["estimate"])
    assert [round(r["predicted"]["estimate"], 2) for r in by_failures] == [0.17, 0.33, 0.67]
    assert [round(r["observed"]["estimate"], 2) for r in by_failures] == [0.97, 0.37, 0.63]
    assert [r["held"] for r in by_failures] == [False, True, True]
    assert (found["known"], found["held"], found["predictive"]) == (3, 2, True)
    assert found["bias"] > 0
    unknown = await server.call("GET", "/models/nobody/prediction")
    assert unknown.status_code == 404


async def test_what_is_driven_and_not_simulated_is_a_list(server: Server, device: Any, champion: Any) -> None:
    domain = {"site": ["north", "south"], "floor": ["dry", "wet"]}
    version = await register(server, 3.0, gate={"parts": [NO_WORSE], "domain": domain})
    scenarios = [{"id": f"s{n}", "tags": ["site:north", "floor:dry"]} for n in range(4)]
    await make_suite(server, scenarios=scenarios)
    content = version["content_digest"]
    events = [event(9, content=content, details={"tags": ["floor:wet"]}), event(10, content=content)]
    answer = await device.telemetry(windows=[window(8, content, 70.0)], events=events)
    assert answer.status_code == 200, answer.text
    found = await server.ok("GET", "/models/times/coverage", Role.VIEWER)
    gaps = {tuple(cell["tags"]): (cell["events"], cell["exposure"]) for cell in found["driven_not_simulated"]}
    assert gaps == {("floor:wet",): (1, 0.0), ("site:north", "floor:wet"): (1, 0.0)}
    cells = {tuple(cell["tags"]): cell for cell in found["cells"]}
    assert len(cells) == 8
    assert cells["site:north",] == {"tags": ["site:north"], "scenarios": 4, "events": 2, "exposure": 70.0}
    assert found["simulated_share"] == pytest.approx(1 / 3)
    assert (found["suites"], found["exposure_unit"]) == (["nominal@1"], "distance_m")
