"""Let the gate decide over the evidence that is there, keep what decided, ask people, sign."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agents.protocol.v1 import digest_of
from control_plane.audit import service as audit
from control_plane.evaluation import store
from control_plane.evaluation.domain import (
    CaseResult,
    CaseStatus,
    Context,
    GateDecision,
    GatePolicy,
    PairedSuite,
    Predictive,
    ReviewsClosed,
    Side,
    Verdict,
    decide_gate,
    gate_statement,
    predicted_ratio,
    questions,
    stopping,
)
from control_plane.evaluation.models import Gate, Suite
from control_plane.evaluation.schemas import GateCreate, GateItem, StopItem
from control_plane.evaluation.service import dossiers
from control_plane.evaluation.service.circumstances import gather
from control_plane.evaluation.service.evaluations import evaluation_key, onnx_of
from control_plane.evaluation.service.policies import policy_of
from control_plane.evaluation.service.suites import HOLDOUT, find_suite, planned
from control_plane.kit import clock, outbox
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, NotFound
from control_plane.kit.ids import new_id
from control_plane.kit.objects import ObjectStore
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.kit.signing import Keyring
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem
from control_plane.review import service as review
from control_plane.review.domain import ReviewState

DECIDED = "gate.decided"
"""Outbox topic: a gate that is to be signed."""
FAILED = "gate.failed"
"""Outbox topic: a candidate did not pass."""
FLIP = "gate_flip"
"""Kind of a review about scenarios in which a candidate differs from the champion."""
MOST_NAMED = 20
HIDDEN = "a hidden suite had a part in it, and says no more to those who train"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to the gate with all that is known."""

    body: GateCreate
    model: ModelItem
    policy: GatePolicy
    suites: tuple[Suite, ...]
    paired: tuple[PairedSuite, ...]
    used: tuple[str, ...]
    context: Context
    nondeterminism: dict[str, list[str]]

    @property
    def evidence(self) -> dict[str, Any]:
        counts = {
            p.suite: [len(p.candidate.results), len(p.champion.results) if p.champion else 0] for p in self.paired
        }
        return {"evaluations": list(self.used), "suites": list(self.body.suites), "results": counts}

    @property
    def key(self) -> str:
        """The same evidence in the same circumstances under the same policy is the same gate.

        Trust in the simulator moves with every metre that is driven; it makes another question only where the policy
        has a part for it. How often a hidden suite was looked at never does: the first answer stands.
        """
        trust = self.context.trust if self._has(Predictive) else None
        context = asdict(replace(self.context, holdout={}, trust=trust and replace(trust, because="")))
        judged = {"candidate": self.body.candidate, "champion": self.body.champion, "context": context}
        return digest_of(judged | {"policy": digest_of(self.model.gate)} | self.evidence)

    @property
    def waits_for_people(self) -> bool:
        return self._has(ReviewsClosed)

    def _has(self, kind: type) -> bool:
        return any(isinstance(part, kind) for part in (*self.policy.parts, *self.policy.first))


async def _asked(session: Session, body: GateCreate, *, whole: bool = True) -> Asked:
    model = await registry.get_model(session, body.model)
    policy = policy_of(model)
    suites = [await find_suite(session, digest) for digest in body.suites]
    paired: list[PairedSuite] = []
    used: list[str] = []
    nondeterminism: dict[str, list[str]] = {}
    for suite in suites:
        if any(suite.name == other.suite for other in paired):
            raise Invalid(f"two of these suites are called {suite.name!r}", code="suite_twice")
        sides = []
        for content in (body.candidate, body.champion):
            side, evaluation, different = await _side(session, suite, content)
            sides.append(side)
            used += [evaluation] if evaluation else []
            if different:
                nondeterminism[suite.name] = sorted({*nondeterminism.get(suite.name, []), *different})
        empty = Side("", suite.simulator, suite.digest, ())
        paired.append(PairedSuite(suite.name, suite.kind, planned(suite), sides[0] or empty, sides[1]))
    context = await gather(session, model, policy, body, paired, whole=whole)
    return Asked(body, model, policy, tuple(suites), tuple(paired), tuple(used), context, nondeterminism)


async def _side(session: Session, suite: Suite, content: str | None) -> tuple[Side | None, str | None, list[str]]:
    if content is None:
        return None, None, []
    sha256 = onnx_of(await registry.get_version(session, content))
    evaluation = await store.find_by_key(session, evaluation_key(sha256, suite))
    if evaluation is None:
        return Side(sha256, suite.simulator, suite.digest, ()), None, []
    results = tuple(
        CaseResult(c.scenario, c.cluster, CaseStatus(c.status), c.metrics, c.seed, c.evidence_sha256)
        for c in sorted(await store.cases(session, evaluation.id), key=lambda each: each.scenario)
    )
    return Side(sha256, suite.simulator, suite.digest, results), evaluation.id, evaluation.nondeterminism


async def ask_stop(session: Session, body: GateCreate) -> list[StopItem]:
    """Say for each suite whether more scenarios could still change the verdict; of hidden ones nothing else."""
    asked = await _asked(session, body, whole=False)
    stops = stopping(asked.policy, asked.paired, asked.context)
    hidden = [suite.kind == HOLDOUT for suite in asked.paired]
    return [
        StopItem(enough=s.enough, because="a hidden suite" if dark else s.because, final=s.final)
        for s, dark in zip(stops, hidden, strict=True)
    ]


async def ask_gate(
    session: Session, objects: ObjectStore, actor: str, body: GateCreate, *, trains: bool = False
) -> GateItem:
    """Decide. The same evidence under the same policy is the same gate; every new one is counted."""
    await store.lock_gates(session, body.model)
    asked = await _asked(session, body)
    if asked.waits_for_people:
        asked = replace(asked, context=await _with_reviews(session, asked))
    found = await store.find_gate_by_key(session, asked.key)
    if found is None:
        decision = decide_gate(asked.policy, asked.paired, asked.context)
        found = await _write_gate(session, objects, asked, decision)
        await _follow_up(session, actor, asked, decision, found)
    return (await _seen(session, [found], trains=trains))[0]


async def judge_reviewed(session: Session, objects: ObjectStore, kind: str, subject: str) -> None:
    """Ask the newest gate of a candidate again once people have answered all that it asked them."""
    if kind != FLIP:
        return
    candidate = subject.partition("/")[0]
    gates = await store.list_gates(session, candidate=candidate, before=None, limit=1)
    if not gates:
        return
    gate = gates[0]
    body = GateCreate(
        model=gate.model,
        candidate=candidate,
        champion=gate.champion,
        suites=gate.evidence["suites"],
        device_classes=gate.device_classes,
    )
    asked = await _asked(session, body)
    open_ones = questions(decide_gate(asked.policy, asked.paired, asked.context).flips)
    answered = (await _with_reviews(session, asked)).reviews
    if asked.waits_for_people and all(question.subject in answered for question in open_ones):
        await ask_gate(session, objects, "review", body)


async def _with_reviews(session: Session, asked: Asked) -> Context:
    """Add what people have answered; a question that is open is one that nobody has answered."""
    flips = decide_gate(asked.policy, asked.paired, asked.context).flips
    states = {}
    for question in questions(flips):
        state, _ = await review.state(session, FLIP, _subject(asked.body.candidate, question.subject))
        if state not in (None, ReviewState.OPEN):
            states[question.subject] = str(state)
    return replace(asked.context, reviews=states)


def _subject(candidate: str, question: str) -> str:
    return f"{candidate}/{question}"


async def _write_gate(session: Session, objects: ObjectStore, asked: Asked, decision: GateDecision) -> Gate:
    body, key = asked.body, asked.key
    others = await store.count_looks(session, body.suites, body.candidate)
    looks = {digest: others.get(digest, 0) + 1 for digest in body.suites}
    attempt = await store.count_others(session, body.model, body.candidate) + 1
    predicted = predicted_ratio(asked.paired, asked.policy.metric)
    gate = Gate(
        id=new_id("gate"),
        key=key,
        model=body.model,
        candidate=body.candidate,
        champion=body.champion,
        policy=asked.model.gate,
        policy_digest=digest_of(asked.model.gate),
        evidence=asked.evidence | {"nondeterminism": asked.nondeterminism},
        attempt=attempt,
        verdict=decision.verdict,
        because=decision.because,
        parts=[asdict(part) for part in decision.parts],
        flips=[asdict(flip) for flip in decision.flips],
        device_classes=list(asked.context.device_classes),
        evidence_sha256=await dossiers.keep(
            objects, _head(asked, looks, attempt), asked.model.gate, asked.paired, asked.context, decision
        ),
        looks=looks,
        predicted=asdict(predicted) if predicted else None,
    )
    session.add(gate)
    await session.flush()
    await session.refresh(gate)
    return gate


def _head(asked: Asked, looks: dict[str, int], attempt: int) -> dict[str, Any]:
    """Name everything by digest that made the results; seeds stand with each scenario and result."""
    return {
        "model": asked.body.model,
        "candidate": asked.body.candidate,
        "champion": asked.body.champion,
        "policy_digest": digest_of(asked.model.gate),
        "suites": {
            suite.name: {
                "sha256": suite.digest,
                "version": suite.version,
                "simulator": suite.simulator,
                "metric_definition": suite.metric_definition,
            }
            for suite in asked.suites
        },
        "evaluations": list(asked.used),
        "nondeterminism": asked.nondeterminism,
        "attempt": attempt,
        "looks": looks,
    }


async def _follow_up(session: Session, actor: str, asked: Asked, decision: GateDecision, gate: Gate) -> None:
    await outbox.emit(session, DECIDED, {"gate": gate.id})
    now = clock.now()
    for name in asked.used:  # stopped as soon as there was enough to decide by, whatever their suites still hold
        await outbox.tell_lineage(session, "evaluate", name, "COMPLETE", now)
    await outbox.tell_lineage(session, "gate", gate.id, "COMPLETE", now)
    if decision.verdict is Verdict.FAIL:
        await outbox.tell(session, FAILED, gate.id, decision.because, f"/gates/{gate.id}")
    nodes = [Node(Kind.EVALUATION, evaluation) for evaluation in asked.used]
    await lineage.link(session, Node(Kind.GATE, gate.id), nodes, "judges")
    action, candidate = f"gate.{decision.verdict}", asked.body.candidate
    await audit.record(session, actor, action, candidate, decision.because, gate=gate.id, attempt=gate.attempt)
    await _spend(session, asked, decision, gate.id)
    if asked.waits_for_people:
        await _ask_people(session, actor, asked, decision, gate.id)


async def _spend(session: Session, asked: Asked, decision: GateDecision, gate_id: str) -> None:
    """Write down what a hidden suite was asked and answered; one that has no results was not looked at."""
    for suite, row in zip(asked.paired, asked.suites, strict=True):
        use = asked.context.holdout.get(suite.suite)
        if use is None or use.spent or not suite.candidate.results:
            continue
        answers = [asdict(part) for part in decision.parts if part.suite == suite.suite]
        values = {"suite": row.digest, "candidate": asked.body.candidate, "model": asked.body.model}
        await store.put_holdout_use(session, values | {"gate_id": gate_id, "answers": answers})


async def _ask_people(session: Session, actor: str, asked: Asked, decision: GateDecision, gate_id: str) -> None:
    """Open a question for every group of flips that has none; what was answered is not asked again."""
    seeds = {(s.suite, p.scenario): p.seed for s in asked.paired for p in s.scenarios}
    for question in questions(decision.flips):
        if question.subject in asked.context.reviews:
            continue
        named = question.flips[:MOST_NAMED]
        shown = [{"suite": f.suite, "scenario": f.scenario, "seed": seeds.get((f.suite, f.scenario))} for f in named]
        evidence = {
            "gate": gate_id,
            "candidate": asked.body.candidate,
            "champion": asked.body.champion,
            "scenarios": shown,
            "more": len(question.flips) - len(shown),
        }
        subject = _subject(asked.body.candidate, question.subject)
        await review.ask(session, actor, FLIP, subject, question.text, evidence, question.needed)


async def attest(session: Session, objects: ObjectStore, keyring: Keyring, gate_id: str) -> None:
    """Sign what a gate decided, with the gate's own key."""
    gate = await store.find_gate(session, gate_id)
    if gate is None:
        raise NotFound(f"there is no gate {gate_id}")
    evidence = gate.evidence_sha256 or digest_of(gate.evidence)
    configuration = {"policy": gate.policy_digest, "evidence": evidence}
    for digest in gate.evidence["suites"]:
        configuration[f"suite:{(await find_suite(session, digest)).name}"] = digest
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


async def get_gate(session: Session, gate_id: str, *, trains: bool = False) -> GateItem:
    found = await store.find_gate(session, gate_id)
    if found is None:
        raise NotFound(f"there is no gate {gate_id}")
    return (await _seen(session, [found], trains=trains))[0]


async def list_gates(
    session: Session,
    *,
    candidate: str | None = None,
    after: str | None = None,
    limit: int = 50,
    trains: bool = False,
) -> Page[GateItem]:
    cursor = decode_cursor(after)
    found = await store.list_gates(session, candidate=candidate, before=cursor[0] if cursor else None, limit=limit + 1)
    return page_of(await _seen(session, found, trains=trains), limit, lambda item: item.id)


async def _seen(session: Session, gates: Sequence[Gate], *, trains: bool) -> list[GateItem]:
    """Leave flips of hidden suites out for those who train: a flip names a scenario."""
    items = [_gate(gate) for gate in gates]
    if not trains:
        return items
    digests = {digest for item in items for digest in item.evidence["suites"]}
    suites = [await find_suite(session, digest) for digest in sorted(digests)]
    dark = {suite.name for suite in suites if suite.kind == HOLDOUT}
    return [_darkened(item, dark) for item in items] if dark else items


def _darkened(item: GateItem, dark: set[str]) -> GateItem:
    parts = [p.model_copy(update={"because": HIDDEN, "figures": {}}) if p.suite in dark else p for p in item.parts]
    if not any(part.suite in dark for part in parts):
        return item
    flips = [flip for flip in item.flips if flip.suite not in dark]
    return item.model_copy(update={"parts": parts, "flips": flips, "because": f"{item.verdict}: {HIDDEN}"})


def _gate(gate: Gate) -> GateItem:
    return GateItem.model_validate(gate, from_attributes=True)
