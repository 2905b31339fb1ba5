"""Suites, evaluations and the gate."""

from control_plane.evaluation import service
from control_plane.evaluation.schemas import (
    CaseItem,
    EvaluationCreate,
    EvaluationItem,
    GateCreate,
    GateItem,
    ResultsCreate,
    StopItem,
    SuiteCreate,
    SuiteItem,
)
from control_plane.kit.http import Cursor, Limit, PipelineCall, ViewerCall, router
from control_plane.kit.pages import Page

api = router("evaluation")


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
    return await service.list_evaluations(call.session, after=after, limit=limit)


@api.get("/evaluations/{evaluation_id}", name="get_evaluation")
async def get_evaluation(evaluation_id: str, call: ViewerCall) -> EvaluationItem:
    """Return one evaluation."""
    return await service.get_evaluation(call.session, evaluation_id)


@api.get("/evaluations/{evaluation_id}/cases", name="list_cases")
async def list_cases(evaluation_id: str, call: ViewerCall) -> list[CaseItem]:
    """List an evaluation's cases."""
    return await service.list_cases(call.session, evaluation_id)


@api.post("/evaluations/{evaluation_id}/results", status_code=201, name="add_results")
async def add_results(evaluation_id: str, body: ResultsCreate, call: PipelineCall) -> EvaluationItem:
    """Take a shard's results in."""
    return await service.add_results(call.session, call.context.objects, evaluation_id, body)


@api.post("/gates", status_code=201, name="ask_gate")
async def ask_gate(body: GateCreate, call: PipelineCall) -> GateItem:
    """Let the gate decide over the evidence that is there."""
    return await service.ask_gate(call.session, call.principal.name, body)


@api.post("/gates/stop", name="ask_stop")
async def ask_stop(body: GateCreate, call: PipelineCall) -> list[StopItem]:
    """Ask for each suite whether its evidence is enough."""
    return await service.ask_stop(call.session, body)


@api.get("/gates", name="list_gates")
async def list_gates(
    call: ViewerCall, after: Cursor = None, limit: Limit = 50, candidate: str | None = None
) -> Page[GateItem]:
    """List what the gate said, newest first."""
    return await service.list_gates(call.session, candidate=candidate, after=after, limit=limit)


@api.get("/gates/{gate_id}", name="get_gate")
async def get_gate(gate_id: str, call: ViewerCall) -> GateItem:
    """Return one decision with its parts and flips."""
    return await service.get_gate(call.session, gate_id)
