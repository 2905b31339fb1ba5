"""Suites, evaluations and the gate."""

from control_plane.evaluation import service
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
from control_plane.kit.http import ApproverCall, Call, Cursor, Limit, PipelineCall, ViewerCall, WideCall, router
from control_plane.kit.pages import Page
from control_plane.kit.roles import Role

api = router("evaluation")


def _trains(call: Call) -> bool:
    """Whether the caller is one that makes models: it must not see what hidden suites found."""
    return call.principal.role is Role.PIPELINE


@api.post("/suites", status_code=201, name="create_suite")
async def create_suite(body: SuiteCreate, call: PipelineCall) -> SuiteItem:
    """Take a suite.json in."""
    return await call.once(body, lambda: service.create_suite(call.session, call.context.objects, body))


@api.get("/suites", name="list_suites")
async def list_suites(call: ViewerCall, model: str | None = None) -> list[SuiteItem]:
    """List suites, newest first."""
    return await service.list_suites(call.session, model)


@api.post("/evaluations", status_code=201, name="create_evaluation")
async def create_evaluation(body: EvaluationCreate, call: PipelineCall) -> EvaluationItem:
    """Ask for one model over one suite; the answer says which scenarios still lack a result."""
    return await service.create_evaluation(call.session, body)


@api.get("/evaluations", name="list_evaluations")
async def list_evaluations(call: ViewerCall, after: Cursor = None, limit: Limit = 50) -> Page[EvaluationItem]:
    """List evaluations, newest first."""
    return await service.list_evaluations(call.session, after=after, limit=limit, trains=_trains(call))


@api.get("/evaluations/{evaluation_id}", name="get_evaluation")
async def get_evaluation(evaluation_id: str, call: ViewerCall) -> EvaluationItem:
    """Return one evaluation."""
    return await service.get_evaluation(call.session, evaluation_id, trains=_trains(call))


@api.get("/evaluations/{evaluation_id}/cases", name="list_cases")
async def list_cases(evaluation_id: str, call: WideCall) -> list[CaseItem]:
    """List an evaluation's cases."""
    return await service.list_cases(call.session, evaluation_id, trains=_trains(call))


@api.post("/evaluations/{evaluation_id}/results", status_code=201, name="add_results")
async def add_results(evaluation_id: str, body: ResultsCreate, call: PipelineCall) -> EvaluationItem:
    """Take a shard's results in."""
    return await service.add_results(call.session, call.context.objects, evaluation_id, body)


@api.post("/gates", status_code=201, name="ask_gate")
async def ask_gate(body: GateCreate, call: PipelineCall) -> GateItem:
    """Let the gate decide over the evidence that is there."""
    return await service.ask_gate(call.session, call.context.objects, call.principal.name, body, trains=_trains(call))


@api.post("/gates/stop", name="ask_stop")
async def ask_stop(body: GateCreate, call: PipelineCall) -> list[StopItem]:
    """Ask for each suite whether its evidence is enough."""
    return await service.ask_stop(call.session, body)


@api.post("/gates/plan", name="plan_gate")
async def plan_gate(body: PlanCreate, call: ViewerCall) -> list[PartPlanItem]:
    """Say before anything is simulated how many scenarios each part needs, and whether the suites have them."""
    return await service.plan(call.session, body)


@api.post("/gates/backtest", name="backtest_policy")
async def backtest(body: BacktestCreate, call: ViewerCall) -> Backtest:
    """Apply another policy to all kept evidence and set it against what the field said later."""
    return await service.backtest(call.session, call.context.objects, body)


@api.post("/gates/{gate_id}/replay", name="replay_gate")
async def replay(gate_id: str, call: ViewerCall) -> ReplayItem:
    """Decide again over a gate's kept evidence and compare bytes."""
    return await service.replay(call.session, call.context.objects, gate_id)


@api.put("/gates/{gate_id}/replays", name="put_replay")
async def put_replay(gate_id: str, body: GateReplayPut, call: PipelineCall) -> GateReplayItem:
    """Take in what one model did in a scenario that people are asked about."""
    return await service.put_replay(call.session, call.context.objects, gate_id, body)


@api.get("/gates/{gate_id}/replays", name="list_replays")
async def list_replays(gate_id: str, call: ViewerCall) -> list[GateReplayItem]:
    """List what people can look at before they answer this gate's questions."""
    return await service.list_replays(call.session, gate_id)


@api.get("/gates", name="list_gates")
async def list_gates(
    call: ViewerCall, after: Cursor = None, limit: Limit = 50, candidate: str | None = None
) -> Page[GateItem]:
    """List what the gate said, newest first."""
    return await service.list_gates(call.session, candidate=candidate, after=after, limit=limit, trains=_trains(call))


@api.get("/gates/{gate_id}", name="get_gate")
async def get_gate(gate_id: str, call: ViewerCall) -> GateItem:
    """Return one decision with its parts and flips."""
    return await service.get_gate(call.session, gate_id, trains=_trains(call))


@api.get("/models/{name}/coverage", name="get_coverage")
async def coverage(name: str, call: WideCall) -> CoverageItem:
    """Count the declared operating domain in suites and in the field: what is driven and not simulated."""
    return await service.get_coverage(call.session, name)


@api.get("/models/{name}/prediction", name="get_prediction")
async def prediction(name: str, call: WideCall) -> PredictionItem:
    """Set what simulation predicted of every version against what the field showed."""
    return await service.get_prediction(call.session, name)


@api.get("/models/{name}/scenarios", name="list_scenarios")
async def list_scenarios(name: str, call: WideCall) -> list[ScenarioItem]:
    """List incidents that were made scenarios, and whether they happen again."""
    return await service.list_scenarios(call.session, name)


@api.put("/models/{name}/scenarios/{source}", name="put_scenario")
async def put_scenario(name: str, source: str, body: ScenarioCheck, call: PipelineCall) -> ScenarioItem:
    """Record what driving an incident again with the guilty model came to."""
    return await service.put_scenario(call.session, call.principal.name, name, source, body)


@api.post("/models/{name}/scenarios/{source}/wishes", name="wish_scenario")
async def wish_scenario(name: str, source: str, body: ScenarioWish, call: ApproverCall) -> ScenarioItem:
    """Keep an incident as a regression test, or take it out."""
    return await service.wish_scenario(call.session, call.principal.name, name, source, body)
