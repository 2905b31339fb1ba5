"""What both models did in the scenarios that people are asked about: taken in, listed, read with its digest checked."""

from pydantic import ValidationError

from agents.protocol.v1 import strict_json
from control_plane.evaluation import store
from control_plane.evaluation.models import Gate, GateReplay, Suite
from control_plane.evaluation.schemas import MOST_REPLAYED, GateReplayItem, GateReplayPut, ReplayFile
from control_plane.evaluation.service.evaluations import evaluation_key, onnx_of
from control_plane.evaluation.service.suites import HOLDOUT, find_suite, read_file
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, NotFound, TooLarge
from control_plane.kit.objects import ObjectStore
from control_plane.kit.objects.errors import CorruptObjectError, ObjectMissingError
from control_plane.registry import service as registry

MAX_REPLAY_BYTES = 1 << 20
MOST_GATES = 50


async def put_replay(session: Session, objects: ObjectStore, gate_id: str, body: GateReplayPut) -> GateReplayItem:
    """Take one side's replay of a flip in; it must be of the model, suite and simulator that the gate judged.

    Whether it came out as the gate was told is written down, not demanded: a simulator that varies is what people have
    to see.
    """
    gate = await _find(session, gate_id)
    await store.lock_gates(session, gate.model)
    suite = await _suite_of(session, gate, body.suite)
    await _must_be_asked_about(session, gate, body)
    file = await _read(objects, body)
    model_sha256 = onnx_of(await registry.get_version(session, _content_of(gate, body.side)))
    _must_be_of(file, body, suite, model_sha256)
    values = {
        "gate_id": gate_id,
        "suite": body.suite,
        "scenario": body.scenario,
        "side": body.side,
        "sha256": body.file.sha256,
        "size_bytes": body.file.size_bytes,
        "outcome": file.outcome.words,
        "agrees": await _agrees(session, file, suite, model_sha256),
    }
    return _item(gate_id, await store.put_replay(session, values))


async def _find(session: Session, gate_id: str) -> Gate:
    gate = await store.find_gate(session, gate_id)
    if gate is None:
        raise NotFound(f"there is no gate {gate_id}")
    return gate


async def _suite_of(session: Session, gate: Gate, name: str) -> Suite:
    for digest in gate.evidence["suites"]:
        suite = await find_suite(session, digest)
        if suite.name == name and suite.kind != HOLDOUT:
            return suite
    raise Invalid(f"gate {gate.id} judged no suite {name} that may be shown", code="unknown_suite")


async def _must_be_asked_about(session: Session, gate: Gate, body: GateReplayPut) -> None:
    asked = (body.suite, body.scenario)
    if all((flip["suite"], flip["scenario"]) != asked for flip in gate.flips):
        raise Invalid(f"both models fare alike in {body.scenario} of {body.suite}", code="not_a_flip")
    known = {(found.suite, found.scenario) for found in await store.replays(session, [gate.id])}
    if len(known | {asked}) > MOST_REPLAYED:
        raise Invalid(f"a gate has replays of at most {MOST_REPLAYED} scenarios", code="too_many_replays")


def _content_of(gate: Gate, side: str) -> str:
    content = gate.candidate if side == "candidate" else gate.champion
    if content is None:
        raise Invalid(f"gate {gate.id} compared with no champion", code="no_champion")
    return content


async def _read(objects: ObjectStore, body: GateReplayPut) -> ReplayFile:
    if body.file.size_bytes > MAX_REPLAY_BYTES:
        raise TooLarge(f"a replay has at most {MAX_REPLAY_BYTES} bytes")
    try:
        return ReplayFile.model_validate(strict_json(await read_file(objects, body.file), MAX_REPLAY_BYTES))
    except (ValidationError, ValueError) as error:
        raise Invalid(f"this is not a replay: {str(error)[:500]}", code="malformed") from error


def _must_be_of(file: ReplayFile, body: GateReplayPut, suite: Suite, model_sha256: str) -> None:
    wrong = None
    if (file.suite, file.scenario) != (body.suite, body.scenario):
        wrong = f"it is of {file.scenario} of {file.suite}"
    elif file.model_sha256 != model_sha256:
        wrong = f"it is not of the {body.side}'s model"
    elif file.simulator != suite.simulator:
        wrong = f"it was driven in {file.simulator}, the suite is for {suite.simulator}"
    if wrong:
        raise Invalid(wrong, code="replay_refused")


async def _agrees(session: Session, file: ReplayFile, suite: Suite, model_sha256: str) -> bool:
    evaluation = await store.find_by_key(session, evaluation_key(model_sha256, suite))
    case = await store.find_case(session, evaluation.id, file.scenario) if evaluation else None
    return case is not None and case.metrics == file.outcome.metrics


async def list_replays(session: Session, gate_id: str) -> list[GateReplayItem]:
    """List a gate's replays, and those of earlier gates over the same models and suites: the drives are the same."""
    gate = await _find(session, gate_id)
    gates = await store.list_gates(session, candidate=gate.candidate, before=None, limit=MOST_GATES)
    alike = [g.id for g in gates if g.champion == gate.champion and g.evidence["suites"] == gate.evidence["suites"]]
    newest = {(r.suite, r.scenario, r.side): r for r in await store.replays(session, [gate.id, *alike])}
    return [_item(gate_id, found) for _, found in sorted(newest.items())]


async def read_replay(
    session: Session, objects: ObjectStore, gate_id: str, suite: str, scenario: str, side: str
) -> bytes:
    """Return one side's file, as it was checked when it came; its digest is checked again.

    Raises:
        NotFound: there is none, or its bytes are lost or damaged.
    """
    found = await list_replays(session, gate_id)
    item = next((r for r in found if (r.suite, r.scenario, r.side) == (suite, scenario, side)), None)
    if item is None:
        raise NotFound("there is no replay of this model in this scenario")
    try:
        return await objects.read(item.sha256, max_size=MAX_REPLAY_BYTES)
    except (ObjectMissingError, CorruptObjectError) as error:
        raise NotFound(f"the replay is lost: {error}", code="artifact_missing") from error


def _item(gate_id: str, found: GateReplay) -> GateReplayItem:
    values = {name: getattr(found, name) for name in GateReplayItem.model_fields if name not in ("gate_id", "page")}
    page = f"/gates/{gate_id}/replays/{found.suite}/{found.scenario}"
    return GateReplayItem.model_validate(values | {"gate_id": gate_id, "page": page})
