"""All that decided, as one JSON: written once, named by its sha256, read back, and decided again.

Figures are rounded to nine digits, so that another machine's last bit is no difference.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from control_plane.evaluation.domain.gate import decide_gate, prefix_of
from control_plane.evaluation.domain.policy import parse_policy
from control_plane.evaluation.domain.values import (
    CaseResult,
    CaseStatus,
    Context,
    GateDecision,
    HoldoutUse,
    Overlap,
    PairedSuite,
    PartVerdict,
    PlannedScenario,
    Side,
    Trust,
    Verdict,
)

HOLDOUT: Final = "holdout"
SCHEMA: Final = "fleetloop.gate_evidence/v1"
DIGITS: Final = 9
MOST_DIFFERENCES: Final = 50


def dossier(
    head: Mapping[str, Any],
    policy: Mapping[str, Any],
    evidence: Sequence[PairedSuite],
    context: Context,
    decision: GateDecision,
) -> dict[str, Any]:
    """Return plain JSON values; `head` says who was judged, with which code, simulators and metric definitions."""
    return {
        "schema": SCHEMA,
        "head": dict(head),
        "policy": dict(policy),
        "suites": [_plain(asdict(suite)) for suite in evidence],
        "context": _plain(asdict(context)),
        "decision": plain_decision(decision),
    }


def plain_decision(decision: GateDecision) -> dict[str, Any]:
    found: dict[str, Any] = _plain(asdict(decision))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    return str(value) if isinstance(value, CaseStatus | Verdict) else value


def decide_again(kept: Mapping[str, Any], policy: Mapping[str, Any] | None = None) -> GateDecision:
    """Decide over a dossier, by its own policy or by another.

    Raises:
        ValueError: this is no dossier of a known schema, or the policy is not understood.
    """
    if kept.get("schema") != SCHEMA:
        raise ValueError(f"the evidence has the schema {kept.get('schema')!r}, this reads {SCHEMA}")
    suites = [_suite(each) for each in kept["suites"]]
    return decide_gate(
        parse_policy(policy if policy is not None else kept["policy"]), suites, _context(kept["context"])
    )


def retrace(kept: Mapping[str, Any], steps: int) -> list[tuple[int, PartVerdict]]:
    """Decide over growing beginnings of what a gate saw: (scenarios seen of a suite, what each part said then).

    It is the gate's own decision, so its figures are the path that the evidence took. Hidden suites tell nobody
    how they were looked at, and are left out.
    """
    policy, context = parse_policy(kept["policy"]), _context(kept["context"])
    suites = [suite for suite in map(_suite, kept["suites"]) if suite.kind != HOLDOUT]
    found = []
    for step in range(1, steps + 1):
        seen = {suite.suite: math.ceil(len(suite.scenarios) * step / steps) for suite in suites}
        decision = decide_gate(policy, [prefix_of(suite, seen[suite.suite]) for suite in suites], context)
        found += [(seen[part.suite], part) for part in decision.parts if part.suite in seen]
    return found


def _suite(each: Mapping[str, Any]) -> PairedSuite:
    scenarios = tuple(PlannedScenario(**{**s, "tags": tuple(s["tags"])}) for s in each["scenarios"])
    champion = _side(each["champion"]) if each["champion"] else None
    return PairedSuite(each["suite"], each["kind"], scenarios, _side(each["candidate"]), champion)


def _side(each: Mapping[str, Any]) -> Side:
    results = tuple(CaseResult(**{**r, "status": CaseStatus(r["status"])}) for r in each["results"])
    return Side(**{**each, "results": results})


def _context(each: Mapping[str, Any]) -> Context:
    return Context(
        device_classes=tuple(each["device_classes"]),
        reviews=each["reviews"],
        overlaps=None if each["overlaps"] is None else tuple(Overlap(**o) for o in each["overlaps"]),
        holdout={name: _use(use) for name, use in each["holdout"].items()},
        left_out={name: tuple(out) for name, out in each["left_out"].items()},
        trust=Trust(**each["trust"]) if each["trust"] else None,
    )


def _use(use: Mapping[str, Any]) -> HoldoutUse:
    answers = tuple(PartVerdict(**{**a, "verdict": Verdict(a["verdict"])}) for a in use["answers"])
    return HoldoutUse(**{**use, "answers": answers})


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """Name every place at which two plain values differ, up to a bound."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = sorted({*before, *after})
        found = [d for key in keys for d in differences(before.get(key), after.get(key), f"{where}.{key}".lstrip("."))]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        found = [d for place, (a, b) in pairs for d in differences(a, b, f"{where}[{place}]")]
    else:
        found = [] if before == after else [f"{where}: was {_short(before)}, is now {_short(after)}"]
    return found[:MOST_DIFFERENCES]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
