"""Take suites and results in, and let the gate decide over them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from agents.protocol.v1 import LIMITS, digest_of, strict_json
from control_plane.audit import service as audit
from control_plane.evaluation import store
from control_plane.evaluation.domain import (
    CaseResult,
    CaseStatus,
    GateDecision,
    GatePolicy,
    PairedSuite,
    PlannedScenario,
    Side,
    Verdict,
    decide_gate,
    gate_statement,
    parse_policy,
    stopping,
)
from control_plane.evaluation.models import Evaluation, Gate, Suite
from control_plane.evaluation.schemas import (
    CaseItem,
    EvaluationCreate,
    EvaluationItem,
    FileRef,
    GateCreate,
    GateItem,
    ResultLine,
    ResultsCreate,
    StopItem,
    SuiteCreate,
    SuiteFile,
    SuiteItem,
)
from control_plane.kit import outbox
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, NotFound
from control_plane.kit.ids import new_id
from control_plane.kit.objects import ObjectStore
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.kit.signing import Keyring
from control_plane.kit.uploads import settle
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem

DECIDED = "gate.decided"
"""Outbox topic: a gate that is to be signed."""
MAX_FILE_BYTES = 256 << 20
MISSING_SHOWN = 10_000


async def create_suite(session: Session, objects: ObjectStore, body: SuiteCreate) -> SuiteItem:
    """Take a suite.json in; its sha256 is the suite's digest."""
    suite = _parse_suite(await _read(objects, body.file))
    ids = [scenario.id for scenario in suite.scenarios]
    if len(set(ids)) != len(ids):
        raise Invalid("a scenario stands twice in this suite", code="malformed")
    tags: dict[str, int] = {}
    for scenario in suite.scenarios:
        for tag in scenario.tags:
            tags[tag] = tags.get(tag, 0) + 1
    values = {
        "digest": body.file.sha256,
        "name": suite.suite,
        "kind": suite.kind,
        "model": body.model,
        "simulator": suite.simulator,
        "size_bytes": body.file.size_bytes,
        "tags": tags,
        "scenarios": [[s.id, s.cluster] for s in suite.scenarios],
    }
    await store.insert_suite(session, values)
    return _suite(await _find_suite(session, body.file.sha256))


async def create_evaluation(session: Session, body: EvaluationCreate) -> EvaluationItem:
    """Ask for one model over one suite; asked again it is the same evaluation, with what is still missing."""
    version = await registry.get_version(session, body.content_digest)
    suite = await _find_suite(session, body.suite)
    model_sha256 = next(f["sha256"] for f in version.content["files"] if f["path"] == "model.onnx")
    key = digest_of({"model": model_sha256, "suite": suite.digest, "simulator": suite.simulator})
    values = {
        "id": new_id("eval"),
        "key": key,
        "content_digest": body.content_digest,
        "run_id": body.run_id,
        "model_sha256": model_sha256,
        "suite": suite.digest,
    }
    if await store.insert_evaluation(session, values):
        sources = [Node(Kind.MODEL_VERSION, body.content_digest), Node(Kind.SUITE, suite.digest)]
        await lineage.link(session, Node(Kind.EVALUATION, values["id"] or ""), sources, "evaluates")
    evaluation = await store.find_by_key(session, key)
    if evaluation is None:
        raise NotFound("the evaluation vanished")
    return await _item(session, evaluation)


async def add_results(
    session: Session, objects: ObjectStore, evaluation_id: str, body: ResultsCreate
) -> EvaluationItem:
    """Take one shard's results.jsonl in; every line must be about this evaluation, and none is counted twice."""
    evaluation = await _find(session, evaluation_id)
    suite = await _find_suite(session, evaluation.suite)
    known = {scenario for scenario, _ in suite.scenarios}
    lines = _parse_results(await _read(objects, body.file))
    for line in lines:
        _check_line(line, evaluation, suite, known)
    await store.insert_cases(
        session,
        [
            {
                "evaluation_id": evaluation_id,
                "scenario": line.scenario,
                "cluster": line.cluster,
                "seed": line.seed,
                "status": line.status,
                "metrics": line.metrics,
                "evidence_sha256": line.evidence_sha256,
                "job_key": body.job_key,
            }
            for line in lines
        ],
    )
    return await _item(session, evaluation)


def _check_line(line: ResultLine, evaluation: Evaluation, suite: Suite, known: set[str]) -> None:
    wrong = None
    if line.scenario not in known:
        wrong = f"scenario {line.scenario} is not in the suite"
    elif line.model_sha256 != evaluation.model_sha256:
        wrong = f"scenario {line.scenario} was run with another model"
    elif line.simulator != suite.simulator:
        wrong = f"scenario {line.scenario} was run in {line.simulator}, the suite is for {suite.simulator}"
    if wrong:
        raise Invalid(wrong, code="results_refused")


def _parse_suite(data: bytes) -> SuiteFile:
    try:
        return SuiteFile.model_validate(strict_json(data, MAX_FILE_BYTES))
    except (ValidationError, ValueError) as error:
        raise Invalid(f"this is not a suite.json: {str(error)[:500]}", code="malformed") from error


def _parse_results(data: bytes) -> list[ResultLine]:
    lines = []
    for number, text in enumerate(data.splitlines(), 1):
        try:
            plain = strict_json(text, LIMITS["body_bytes"])
            line = ResultLine.model_validate(plain)
        except (ValidationError, ValueError) as error:
            raise Invalid(f"results.jsonl line {number}: {str(error)[:500]}", code="malformed") from error
        rest = {key: value for key, value in plain.items() if key != "evidence_sha256"}
        if digest_of(rest) != line.evidence_sha256:
            raise Invalid(
                f"results.jsonl line {number}: evidence_sha256 is not the digest of the rest", code="results_refused"
            )
        lines.append(line)
    return lines


async def _read(objects: ObjectStore, ref: FileRef) -> bytes:
    if await settle(objects, ref.sha256, ref.size_bytes) is None:
        raise Invalid(f"{ref.sha256} of {ref.size_bytes} bytes is not in the object store", code="artifact_missing")
    return await objects.read(ref.sha256, max_size=MAX_FILE_BYTES)


async def _evidence(
    session: Session, candidate: str, champion: str | None, suites: Sequence[str]
) -> tuple[list[PairedSuite], list[str]]:
    """Collect both sides' results over each suite, and the evaluations they came from."""
    paired: list[PairedSuite] = []
    used: list[str] = []
    for digest in suites:
        suite = await _find_suite(session, digest)
        planned = tuple(PlannedScenario(scenario, cluster) for scenario, cluster in suite.scenarios)
        sides: list[Side | None] = []
        for content in (candidate, champion):
            side, evaluation = await _side(session, suite, content)
            sides.append(side)
            used += [evaluation] if evaluation else []
        empty = Side("", suite.simulator, suite.digest, ())
        if any(suite.name == other.suite for other in paired):
            raise Invalid(f"two of these suites are called {suite.name!r}", code="suite_twice")
        paired.append(PairedSuite(suite.name, suite.kind, planned, sides[0] or empty, sides[1]))
    return paired, used


async def _side(session: Session, suite: Suite, content: str | None) -> tuple[Side | None, str | None]:
    if content is None:
        return None, None
    version = await registry.get_version(session, content)
    sha256 = next(f["sha256"] for f in version.content["files"] if f["path"] == "model.onnx")
    key = digest_of({"model": sha256, "suite": suite.digest, "simulator": suite.simulator})
    evaluation = await store.find_by_key(session, key)
    if evaluation is None:
        return Side(sha256, suite.simulator, suite.digest, ()), None
    results = tuple(
        CaseResult(case.scenario, case.cluster, CaseStatus(case.status), case.metrics)
        for case in await store.cases(session, evaluation.id)
    )
    return Side(sha256, suite.simulator, suite.digest, results), evaluation.id


async def ask_stop(session: Session, body: GateCreate) -> list[StopItem]:
    """Say for each suite whether more scenarios could still change the verdict."""
    model = await registry.get_model(session, body.model)
    policy = _policy(model)
    paired, _ = await _evidence(session, body.candidate, body.champion, body.suites)
    return [StopItem(enough=s.enough, because=s.because) for s in (stopping(policy, suite) for suite in paired)]


async def ask_gate(session: Session, actor: str, body: GateCreate) -> GateItem:
    """Decide. The same evidence under the same policy is the same gate; every new one is counted."""
    model = await registry.get_model(session, body.model)
    policy = _policy(model)
    paired, used = await _evidence(session, body.candidate, body.champion, body.suites)
    counts = {p.suite: [len(p.candidate.results), len(p.champion.results) if p.champion else 0] for p in paired}
    evidence = {"evaluations": used, "suites": list(body.suites), "results": counts}
    policy_digest = digest_of(model.gate)
    key = digest_of({"candidate": body.candidate, "champion": body.champion, "policy": policy_digest} | evidence)
    await store.lock_gates(session, body.model)
    found = await store.find_gate_by_key(session, key)
    if found is None:
        decision = decide_gate(policy, paired)
        found = await _write_gate(session, body, model.gate, policy_digest, evidence, key, decision)
        await outbox.emit(session, DECIDED, {"gate": found.id})
        nodes = [Node(Kind.EVALUATION, evaluation) for evaluation in used]
        await lineage.link(session, Node(Kind.GATE, found.id), nodes, "judges")
        await audit.record(
            session,
            actor,
            f"gate.{decision.verdict}",
            body.candidate,
            decision.because,
            gate=found.id,
            attempt=found.attempt,
        )
    return _gate(found)


def _policy(model: ModelItem) -> GatePolicy:
    try:
        return parse_policy(model.gate)
    except ValueError as error:
        raise Invalid(f"the gate policy of {model.name} is not understood: {error}") from error


async def _write_gate(
    session: Session,
    body: GateCreate,
    policy: dict[str, Any],
    policy_digest: str,
    evidence: dict[str, Any],
    key: str,
    decision: GateDecision,
) -> Gate:
    gate = Gate(
        id=new_id("gate"),
        key=key,
        model=body.model,
        candidate=body.candidate,
        champion=body.champion,
        policy=policy,
        policy_digest=policy_digest,
        evidence=evidence,
        attempt=await store.count_others(session, body.model, body.candidate) + 1,
        verdict=decision.verdict,
        because=decision.because,
        parts=[asdict(part) for part in decision.parts],
        flips=[asdict(flip) for flip in decision.flips],
        device_classes=sorted(set(body.device_classes)),
    )
    session.add(gate)
    await session.flush()
    await session.refresh(gate)
    return gate


async def attest(session: Session, objects: ObjectStore, keyring: Keyring, gate_id: str) -> None:
    """Sign what a gate decided, with the gate's own key."""
    gate = await store.find_gate(session, gate_id)
    if gate is None:
        raise NotFound(f"there is no gate {gate_id}")
    configuration = {"policy": gate.policy_digest, "evidence": digest_of(gate.evidence)}
    for digest in gate.evidence["suites"]:
        configuration[f"suite:{(await _find_suite(session, digest)).name}"] = digest
    statement = gate_statement(
        content_digest=gate.candidate,
        device_classes=gate.device_classes,
        verdict=Verdict(gate.verdict),
        parts=gate.parts,
        configuration=configuration,
        decided_at=gate.created_at,
    )
    if statement is not None:
        await registry.sign_statement(session, objects, keyring, "gate", statement)


async def get_gate(session: Session, gate_id: str) -> GateItem:
    found = await store.find_gate(session, gate_id)
    if found is None:
        raise NotFound(f"there is no gate {gate_id}")
    return _gate(found)


async def list_gates(
    session: Session, *, candidate: str | None = None, after: str | None = None, limit: int = 50
) -> Page[GateItem]:
    cursor = decode_cursor(after)
    found = await store.list_gates(session, candidate=candidate, before=cursor[0] if cursor else None, limit=limit + 1)
    return page_of([_gate(g) for g in found], limit, lambda item: item.id)


async def list_evaluations(session: Session, *, after: str | None = None, limit: int = 50) -> Page[EvaluationItem]:
    cursor = decode_cursor(after)
    found = await store.list_evaluations(session, before=cursor[0] if cursor else None, limit=limit + 1)
    return page_of([await _item(session, e) for e in found], limit, lambda item: item.id)


async def get_evaluation(session: Session, evaluation_id: str) -> EvaluationItem:
    return await _item(session, await _find(session, evaluation_id))


async def list_cases(session: Session, evaluation_id: str) -> list[CaseItem]:
    """Return every case of one evaluation, by scenario."""
    await _find(session, evaluation_id)
    found = sorted(await store.cases(session, evaluation_id), key=lambda case: case.scenario)
    return [CaseItem.model_validate(case, from_attributes=True) for case in found]


async def list_suites(session: Session, model: str | None = None) -> list[SuiteItem]:
    return [_suite(s) for s in await store.list_suites(session, model)]


async def _find(session: Session, evaluation_id: str) -> Evaluation:
    found = await store.find_evaluation(session, evaluation_id)
    if found is None:
        raise NotFound(f"there is no evaluation {evaluation_id}")
    return found


async def _find_suite(session: Session, digest: str) -> Suite:
    found = await store.find_suite(session, digest)
    if found is None:
        raise NotFound(f"there is no suite {digest}")
    return found


def _suite(suite: Suite) -> SuiteItem:
    return SuiteItem(
        digest=suite.digest,
        name=suite.name,
        kind=suite.kind,
        model=suite.model,
        simulator=suite.simulator,
        size_bytes=suite.size_bytes,
        scenarios=len(suite.scenarios),
        tags=suite.tags,
        created_at=suite.created_at,
    )


async def _item(session: Session, evaluation: Evaluation) -> EvaluationItem:
    suite = await _find_suite(session, evaluation.suite)
    done = await store.done_scenarios(session, evaluation.id)
    missing = [place for place, (scenario, _) in enumerate(suite.scenarios) if scenario not in done]
    return EvaluationItem(
        id=evaluation.id,
        key=evaluation.key,
        content_digest=evaluation.content_digest,
        suite=suite.digest,
        suite_name=suite.name,
        scenarios=len(suite.scenarios),
        done=len(done),
        missing=missing[:MISSING_SHOWN],
        means={row["key"]: row["mean"] for row in await store.means(session, evaluation.id)},
        created_at=evaluation.created_at,
    )


def _gate(gate: Gate) -> GateItem:
    return GateItem.model_validate(gate, from_attributes=True)
