"""Keep all that decided as one file named by its digest; decide over it again, by the same policy or another."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from agents.protocol.v1 import canonical_json, strict_json
from control_plane.evaluation import store
from control_plane.evaluation.domain import (
    Context,
    GateDecision,
    PairedSuite,
    Verdict,
    decide_again,
    differences,
    dossier,
    parse_policy,
    plain_decision,
    retrace,
)
from control_plane.evaluation.models import Gate
from control_plane.evaluation.schemas import Backtest, BacktestCreate, BacktestLine, PathItem, ReplayItem, ShareItem
from control_plane.evaluation.service.field import releases_of
from control_plane.kit.db import Row, Session
from control_plane.kit.errors import Invalid, NotFound
from control_plane.kit.objects import ObjectStore
from control_plane.kit.objects.errors import CorruptObjectError, ObjectMissingError
from control_plane.kit.statistics import clustered_mean
from control_plane.registry import service as registry

MAX_BYTES = 256 << 20
NO_CHANGE = 1.0
ONE_SIDED = 0.975
PATH_STEPS = 30


@cache
def code_sha256() -> str:
    """Digest the code that decides: another digest may decide differently."""
    digest = hashlib.sha256()
    roots = [files("control_plane.evaluation.domain"), files("control_plane.kit")]
    names = [(roots[0], each.name) for each in roots[0].iterdir()]
    names += [(roots[1], name) for name in ("betting.py", "statistics.py")]
    for root, name in sorted(names, key=lambda pair: pair[1]):
        if name.endswith(".py") and (root / name).is_file():
            digest.update(name.encode() + b"\0" + (root / name).read_bytes())
    return digest.hexdigest()


async def keep(
    objects: ObjectStore,
    head: Mapping[str, Any],
    policy: Mapping[str, Any],
    evidence: Sequence[PairedSuite],
    context: Context,
    decision: GateDecision,
) -> str:
    """Write the dossier to the object store and return its digest."""
    written = dossier({**head, "code_sha256": code_sha256()}, policy, evidence, context, decision)
    return (await objects.put_bytes(canonical_json(written))).sha256


async def replay(session: Session, objects: ObjectStore, gate_id: str) -> ReplayItem:
    """Fetch a gate's dossier, check its digest, decide again, and compare bytes."""
    gate = await store.find_gate(session, gate_id)
    if gate is None:
        raise NotFound(f"there is no gate {gate_id}")
    if not gate.evidence_sha256:
        raise Invalid(f"gate {gate_id} is from before evidence was kept", code="evidence_missing")
    kept = await _read(objects, gate.id, gate.evidence_sha256)
    try:
        again = plain_decision(decide_again(kept))
    except ValueError as error:
        return _replayed(gate, kept, None, [f"the evidence cannot be decided again: {error}"])
    found = differences(kept["decision"], again)
    if gate.verdict != kept["decision"]["verdict"]:
        found.append(f"the row says {gate.verdict}, its evidence {kept['decision']['verdict']}")
    if not found and canonical_json(kept["decision"]) != canonical_json(again):
        found.append("the bytes differ")
    return _replayed(gate, kept, again["verdict"], found)


async def paths(session: Session, objects: ObjectStore, gate_id: str) -> list[PathItem]:
    """Say how the evidence of each part grew with the scenarios; nothing for a gate from before evidence was kept."""
    gate = await store.find_gate(session, gate_id)
    if gate is None:
        raise NotFound(f"there is no gate {gate_id}")
    if not gate.evidence_sha256:
        return []
    kept = await _read(objects, gate.id, gate.evidence_sha256)
    traced: dict[tuple[str, str, str], list[tuple[int, Mapping[str, Any]]]] = {}
    for seen, part in await asyncio.to_thread(retrace, kept, PATH_STEPS):
        traced.setdefault((part.suite, part.rule, part.metric), []).append((seen, part.figures))
    found = [_path(*key, points) for key, points in traced.items()]
    return [item for item in found if item.e_values]


def _path(suite: str, rule: str, metric: str, points: Sequence[tuple[int, Mapping[str, Any]]]) -> PathItem:
    points = _while_driven(points)
    names = {name.removesuffix("_e") for _, figures in points for name in figures if name.endswith("_e")}
    last = points[-1][1]
    return PathItem(
        suite=suite,
        rule=rule,
        metric=metric,
        seen=[seen for seen, _ in points],
        e_values={name: [figures.get(f"{name}_e") for _, figures in points] for name in sorted(names)},
        needed={name: last[f"{name}_needed"] for name in sorted(names) if last.get(f"{name}_needed")},
    )


def _while_driven(points: Sequence[tuple[int, Mapping[str, Any]]]) -> Sequence[tuple[int, Mapping[str, Any]]]:
    """Leave out what comes after the last scenario that was driven: nothing is known of it, and nothing changes."""
    end = len(points) - 1
    while end > 0 and points[end - 1][1] == points[end][1]:
        end -= 1
    seen, figures = points[end]
    return [*points[:end], (min(seen, int(figures.get("pairs", seen))), figures)]


def _replayed(gate: Gate, kept: Mapping[str, Any], verdict: str | None, found: list[str]) -> ReplayItem:
    return ReplayItem(
        gate=gate.id,
        same=not found,
        evidence_sha256=gate.evidence_sha256,
        stored_verdict=Verdict(gate.verdict),
        verdict=Verdict(verdict) if verdict else None,
        same_code=kept["head"].get("code_sha256") == code_sha256(),
        differences=found,
    )


async def _read(objects: ObjectStore, gate_id: str, sha256: str) -> dict[str, Any]:
    try:
        data = await objects.read(sha256, max_size=MAX_BYTES)
    except (ObjectMissingError, CorruptObjectError) as error:
        raise Invalid(f"the evidence of gate {gate_id} is lost: {error}", code="evidence_missing") from error
    kept: dict[str, Any] = strict_json(data, MAX_BYTES)
    return kept


async def backtest(session: Session, objects: ObjectStore, body: BacktestCreate) -> Backtest:
    """Apply another policy to all kept evidence and set it against what the field said later, or the gate then."""
    _must_be_understood(body.policy)
    truths: dict[str, str] = {}
    gates = await store.kept_gates(session, body.model)
    for model in sorted({gate["model"] for gate in gates}):
        for release in await releases_of(session, await registry.get_model(session, model)):
            if release.observed is not None:
                truths[release.candidate] = _truth(release.observed.low, release.observed.high)
    lines, skipped = [], 0
    for gate in gates:
        try:
            verdict = decide_again(await _read(objects, gate["id"], gate["evidence_sha256"]), body.policy).verdict
        except (Invalid, ValueError):
            skipped += 1
            continue
        lines.append(_line(gate, verdict, truths.get(gate["candidate"], "unknown")))
    return Backtest(
        gates=len(lines),
        skipped=skipped,
        false_pass=_share([line.verdict is Verdict.PASS for line in lines if line.truth == "bad"]),
        false_block=_share([line.verdict is not Verdict.PASS for line in lines if line.truth == "good"]),
        lines=lines,
    )


def _must_be_understood(policy: Mapping[str, Any]) -> None:
    try:
        parse_policy(policy)
    except ValueError as error:
        raise Invalid(f"this policy is not understood: {error}") from error


def _truth(low: float, high: float) -> str:
    """The field calls a candidate bad or good only where its interval lies on one side of "no change"."""
    if low > NO_CHANGE:
        return "bad"
    return "good" if high < NO_CHANGE else "unknown"


def _line(gate: Row, verdict: Verdict, truth: str) -> BacktestLine:
    by = "field" if truth != "unknown" else "gate"
    if by == "gate":
        truth = {"pass": "good", "fail": "bad"}.get(gate["verdict"], "unknown")
    return BacktestLine.model_validate(
        {"gate": gate["id"], "stored": gate["verdict"], "verdict": verdict, "truth": truth, "by": by}
    )


def _share(hits: Sequence[bool]) -> ShareItem:
    if not hits:
        return ShareItem(hits=0, of=0, share=None, low=0.0, high=1.0)
    bounds = clustered_mean([float(hit) for hit in hits], list(range(len(hits))), ONE_SIDED)
    return ShareItem(hits=sum(hits), of=len(hits), share=bounds.estimate, low=bounds.low, high=bounds.high)
