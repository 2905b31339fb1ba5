"""Take suites and results in, let the gate decide over them, keep what decided, and set it against the field."""

from control_plane.evaluation.service.comparisons import compare
from control_plane.evaluation.service.dossiers import backtest, paths, replay
from control_plane.evaluation.service.effort import efforts
from control_plane.evaluation.service.evaluations import (
    add_results,
    create_evaluation,
    get_evaluation,
    list_cases,
    list_evaluations,
)
from control_plane.evaluation.service.field import get_coverage, get_prediction
from control_plane.evaluation.service.gates import (
    DECIDED,
    FLIP,
    ask_gate,
    ask_stop,
    attest,
    get_gate,
    judge_reviewed,
    list_gates,
)
from control_plane.evaluation.service.incidents import list_scenarios, put_scenario, wish_scenario
from control_plane.evaluation.service.policies import plan
from control_plane.evaluation.service.replays import list_replays, put_replay, read_replay
from control_plane.evaluation.service.suites import create_suite, get_suite, list_suites, suite_names

__all__ = [
    "DECIDED",
    "FLIP",
    "add_results",
    "ask_gate",
    "ask_stop",
    "attest",
    "backtest",
    "compare",
    "create_evaluation",
    "create_suite",
    "efforts",
    "get_coverage",
    "get_evaluation",
    "get_gate",
    "get_prediction",
    "get_suite",
    "judge_reviewed",
    "list_cases",
    "list_evaluations",
    "list_gates",
    "list_replays",
    "list_scenarios",
    "list_suites",
    "paths",
    "plan",
    "put_replay",
    "put_scenario",
    "read_replay",
    "replay",
    "suite_names",
    "wish_scenario",
]
