"""Suites, evaluations, the gate's evidence, incidents as scenarios, and simulation against the field."""

from typing import Any

from control_plane.client.ask import Ask, Call, Pages, Walk, create, get, post, put, segment
from control_plane.evaluation.schemas import (
    Backtest,
    BacktestCreate,
    CaseItem,
    CoverageItem,
    EvaluationCreate,
    EvaluationItem,
    GateCreate,
    GateItem,
    GateReplayItem,
    GateReplayPut,
    PartPlanItem,
    PlanCreate,
    PredictionItem,
    ReplayItem,
    ResultsCreate,
    ScenarioCheck,
    ScenarioItem,
    ScenarioWish,
    StopItem,
    SuiteCreate,
    SuiteItem,
)


class EvaluationCalls:
    @Call
    def create_suite(self, body: SuiteCreate) -> Ask[SuiteItem]:
        """Register a suite from a file in the object store."""
        return create(SuiteItem, "/suites", body)

    @Call
    def list_suites(self, model: str | None = None) -> Ask[list[SuiteItem]]:
        """List suites, of one model or all."""
        return get(list[SuiteItem], "/suites", model=model)

    @Call
    def create_evaluation(self, body: EvaluationCreate) -> Ask[EvaluationItem]:
        """Begin an evaluation, or return the one there is."""
        return post(EvaluationItem, "/evaluations", body)

    @Walk
    def list_evaluations(self) -> Pages[EvaluationItem]:
        """Walk evaluations."""
        return Pages(EvaluationItem, "/evaluations")

    @Call
    def get_evaluation(self, evaluation_id: str) -> Ask[EvaluationItem]:
        """Return one evaluation."""
        return get(EvaluationItem, f"/evaluations/{segment(evaluation_id)}")

    @Call
    def list_cases(self, evaluation_id: str) -> Ask[list[CaseItem]]:
        """List what came of every scenario of an evaluation."""
        return get(list[CaseItem], f"/evaluations/{segment(evaluation_id)}/cases")

    @Call
    def add_results(self, evaluation_id: str, body: ResultsCreate) -> Ask[EvaluationItem]:
        """Add results from a file in the object store."""
        return post(EvaluationItem, f"/evaluations/{segment(evaluation_id)}/results", body)

    @Call
    def ask_stop(self, body: GateCreate) -> Ask[list[StopItem]]:
        """Ask whether the evidence suffices already."""
        return post(list[StopItem], "/gates/stop", body)

    @Call
    def ask_gate(self, body: GateCreate) -> Ask[GateItem]:
        """Have the gate decide."""
        return post(GateItem, "/gates", body)

    @Call
    def get_gate(self, gate_id: str) -> Ask[GateItem]:
        """Return one decision of the gate."""
        return get(GateItem, f"/gates/{segment(gate_id)}")

    @Walk
    def list_gates(self, /, **query: Any) -> Pages[GateItem]:
        """Walk decisions of the gate, newest first."""
        return Pages(GateItem, "/gates", query)

    @Call
    def plan_gate(self, body: PlanCreate) -> Ask[list[PartPlanItem]]:
        """Say how many scenarios each part of a policy needs."""
        return post(list[PartPlanItem], "/gates/plan", body)

    @Call
    def replay_gate(self, gate_id: str) -> Ask[ReplayItem]:
        """Decide once more over what was kept, and compare."""
        return post(ReplayItem, f"/gates/{segment(gate_id)}/replay")

    @Call
    def put_replay(self, gate_id: str, body: GateReplayPut) -> Ask[GateReplayItem]:
        """Hand in what one model did in one scenario."""
        return put(GateReplayItem, f"/gates/{segment(gate_id)}/replays", body)

    @Call
    def list_replays(self, gate_id: str) -> Ask[list[GateReplayItem]]:
        """List what can be looked at before a gate is overruled."""
        return get(list[GateReplayItem], f"/gates/{segment(gate_id)}/replays")

    @Call
    def backtest(self, body: BacktestCreate) -> Ask[Backtest]:
        """Apply another policy to all kept evidence."""
        return post(Backtest, "/gates/backtest", body)

    @Call
    def list_scenarios(self, model: str) -> Ask[list[ScenarioItem]]:
        """List incidents that were made scenarios."""
        return get(list[ScenarioItem], f"/models/{segment(model)}/scenarios")

    @Call
    def put_scenario(self, model: str, source: str, body: ScenarioCheck) -> Ask[ScenarioItem]:
        """Report how often an incident happens again."""
        return put(ScenarioItem, f"/models/{segment(model)}/scenarios/{segment(source)}", body)

    @Call
    def wish_scenario(self, model: str, source: str, body: ScenarioWish) -> Ask[ScenarioItem]:
        """Keep an incident as a test, or take it out."""
        return post(ScenarioItem, f"/models/{segment(model)}/scenarios/{segment(source)}/wishes", body)

    @Call
    def coverage(self, model: str) -> Ask[CoverageItem]:
        """Count what is driven and what is simulated."""
        return get(CoverageItem, f"/models/{segment(model)}/coverage")

    @Call
    def prediction(self, model: str) -> Ask[PredictionItem]:
        """Set what simulation predicted against what the field showed."""
        return get(PredictionItem, f"/models/{segment(model)}/prediction")
