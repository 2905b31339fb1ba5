"""One model over one suite: ask, take results in, and give out what may be seen."""

from typing import Any

from pydantic import ValidationError

from agents.protocol.v1 import LIMITS, digest_of, strict_json
from control_plane.evaluation import store
from control_plane.evaluation.models import Evaluation, Suite
from control_plane.evaluation.schemas import CaseItem, EvaluationCreate, EvaluationItem, ResultLine, ResultsCreate
from control_plane.evaluation.service.suites import HOLDOUT, find_suite, read_file
from control_plane.kit import clock, outbox
from control_plane.kit.db import Session
from control_plane.kit.errors import Forbidden, Invalid, NotFound
from control_plane.kit.ids import new_id
from control_plane.kit.objects import ObjectStore
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.registry import service as registry
from control_plane.registry.schemas import VersionItem

MISSING_SHOWN = 10_000
MOST_NONDETERMINISM = 100


def onnx_of(version: VersionItem) -> str:
    return next(str(f["sha256"]) for f in version.content["files"] if f["path"] == "model.onnx")


def evaluation_key(model_sha256: str, suite: Suite) -> str:
    return digest_of({"model": model_sha256, "suite": suite.digest, "simulator": suite.simulator})


async def create_evaluation(session: Session, body: EvaluationCreate) -> EvaluationItem:
    """Ask for one model over one suite; asked again it is the same evaluation, with what is still missing."""
    version = await registry.get_version(session, body.content_digest)
    suite = await find_suite(session, body.suite)
    model_sha256 = onnx_of(version)
    key = evaluation_key(model_sha256, suite)
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
        await outbox.tell_lineage(session, "evaluate", str(values["id"]), "START", clock.now())
    evaluation = await store.find_by_key(session, key)
    if evaluation is None:
        raise NotFound("the evaluation vanished")
    return await _item(session, evaluation)


async def add_results(
    session: Session, objects: ObjectStore, evaluation_id: str, body: ResultsCreate
) -> EvaluationItem:
    """Take one shard's results.jsonl in; every line must be about this evaluation, and none is counted twice.

    A scenario that is run again changes nothing, whatever comes out: choosing among repeats would be choosing the
    verdict. That it came out differently is written down.
    """
    evaluation = await _find(session, evaluation_id)
    suite = await find_suite(session, evaluation.suite)
    known = {row[0] for row in suite.scenarios}
    lines = _parse_results(await read_file(objects, body.file))
    for line in lines:
        _check_line(line, evaluation, suite, known)
    before = await store.evidence_digests(session, evaluation_id, [line.scenario for line in lines])
    different = {
        line.scenario for line in lines if before.get(line.scenario, line.evidence_sha256) != line.evidence_sha256
    }
    firsts: dict[str, str] = {}
    for line in lines:
        if firsts.setdefault(line.scenario, line.evidence_sha256) != line.evidence_sha256:
            different.add(line.scenario)
    if different - set(evaluation.nondeterminism):
        evaluation.nondeterminism = sorted({*evaluation.nondeterminism, *different})[:MOST_NONDETERMINISM]
    await store.insert_cases(session, [_case(evaluation_id, line, body.job_key) for line in lines])
    item = await _item(session, evaluation)
    if item.done >= item.scenarios and not before.keys() >= firsts.keys():
        await outbox.tell_lineage(session, "evaluate", evaluation_id, "COMPLETE", clock.now())
    return item


def _case(evaluation_id: str, line: ResultLine, job_key: str) -> dict[str, Any]:
    return {
        "evaluation_id": evaluation_id,
        "scenario": line.scenario,
        "cluster": line.cluster,
        "seed": line.seed,
        "status": line.status,
        "metrics": line.metrics,
        "evidence_sha256": line.evidence_sha256,
        "job_key": job_key,
    }


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


async def list_evaluations(
    session: Session, *, after: str | None = None, limit: int = 50, trains: bool = False
) -> Page[EvaluationItem]:
    cursor = decode_cursor(after)
    found = await store.list_evaluations(session, before=cursor[0] if cursor else None, limit=limit + 1)
    return page_of([await _item(session, e, trains=trains) for e in found], limit, lambda item: item.id)


async def get_evaluation(session: Session, evaluation_id: str, *, trains: bool = False) -> EvaluationItem:
    return await _item(session, await _find(session, evaluation_id), trains=trains)


async def list_cases(session: Session, evaluation_id: str, *, trains: bool = False) -> list[CaseItem]:
    """Return every case of one evaluation, by scenario; of a hidden suite not to whoever `trains`."""
    evaluation = await _find(session, evaluation_id)
    if trains and (await find_suite(session, evaluation.suite)).kind == HOLDOUT:
        raise Forbidden("what a hidden suite found in which scenario is not for those who train on it")
    found = sorted(await store.cases(session, evaluation_id), key=lambda case: case.scenario)
    return [CaseItem.model_validate(case, from_attributes=True) for case in found]


async def _find(session: Session, evaluation_id: str) -> Evaluation:
    found = await store.find_evaluation(session, evaluation_id)
    if found is None:
        raise NotFound(f"there is no evaluation {evaluation_id}")
    return found


async def _item(session: Session, evaluation: Evaluation, *, trains: bool = False) -> EvaluationItem:
    suite = await find_suite(session, evaluation.suite)
    done = await store.done_scenarios(session, evaluation.id)
    missing = [place for place, row in enumerate(suite.scenarios) if row[0] not in done]
    hidden = trains and suite.kind == HOLDOUT
    means = {} if hidden else {row["key"]: row["mean"] for row in await store.means(session, evaluation.id)}
    return EvaluationItem(
        id=evaluation.id,
        key=evaluation.key,
        content_digest=evaluation.content_digest,
        suite=suite.digest,
        suite_name=suite.name,
        scenarios=len(suite.scenarios),
        done=len(done),
        missing=missing[:MISSING_SHOWN],
        means=means,
        nondeterminism=evaluation.nondeterminism,
        created_at=evaluation.created_at,
    )
