"""The gate: whether simulation shows that a candidate may go on. Pure; see docs/explanation/gate.md."""

from control_plane.evaluation.domain.attest import gate_statement, result_of
from control_plane.evaluation.domain.gate import decide_gate, stopping
from control_plane.evaluation.domain.policy import (
    AbsoluteAtMost,
    GatePolicy,
    Improves,
    MeanRatioAtMost,
    NonInferior,
    Part,
    ZeroTolerance,
    parse_policy,
)
from control_plane.evaluation.domain.values import (
    CaseResult,
    CaseStatus,
    Flip,
    GateDecision,
    PairedSuite,
    PartVerdict,
    PlannedScenario,
    Side,
    Stop,
    Verdict,
)

__all__ = [
    "AbsoluteAtMost",
    "CaseResult",
    "CaseStatus",
    "Flip",
    "GateDecision",
    "GatePolicy",
    "Improves",
    "MeanRatioAtMost",
    "NonInferior",
    "PairedSuite",
    "Part",
    "PartVerdict",
    "PlannedScenario",
    "Side",
    "Stop",
    "Verdict",
    "ZeroTolerance",
    "decide_gate",
    "gate_statement",
    "parse_policy",
    "result_of",
    "stopping",
]
