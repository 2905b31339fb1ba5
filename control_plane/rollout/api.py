"""Rollouts: make one, follow it, say what you want of it."""

from typing import Annotated

from fastapi import Query

from control_plane.kit.http import Cursor, Limit, OperatorCall, Request, ViewerCall, WideCall, WorkerCall, router
from control_plane.kit.pages import Page
from control_plane.kit.roles import Role
from control_plane.rollout import service
from control_plane.rollout.domain import Standing
from control_plane.rollout.schemas import (
    BaselineItem,
    DecisionItem,
    DeploymentItem,
    Explanation,
    ForecastItem,
    RolloutCreate,
    RolloutItem,
    RolloutPlan,
    RolloutReplay,
    RolloutWish,
    TallyItem,
    VersionLedger,
)

api = router("rollout")


@api.post("/rollouts", status_code=201, name="create_rollout")
async def create_rollout(body: RolloutCreate, call: WorkerCall) -> RolloutItem:
    """Plan a release's way to devices. To override the gate or the planner, or to pre-empt, needs an operator."""
    if body.override_reason or body.plan_override or body.preempt:
        call.principal.must_be(Role.OPERATOR)
    return await call.once(
        body, lambda: service.create_rollout(call.session, call.context.objects, call.principal.name, body)
    )


@api.get("/rollouts", name="list_rollouts")
async def list_rollouts(call: ViewerCall, after: Cursor = None, limit: Limit = 50) -> Page[RolloutItem]:
    """List rollouts, newest first."""
    return await service.list_rollouts(call.session, after=after, limit=limit)


@api.get("/rollouts/{rollout_id}", name="get_rollout")
async def get_rollout(rollout_id: str, call: ViewerCall) -> RolloutItem:
    """Return one rollout with the latest figures."""
    return await service.get(call.session, rollout_id)


@api.get("/rollouts/{rollout_id}/decisions", name="list_rollout_decisions")
async def list_decisions(rollout_id: str, call: ViewerCall, limit: Limit = 500) -> list[DecisionItem]:
    """List what was decided and why, oldest first."""
    return await service.list_decisions(call.session, rollout_id, limit)


@api.get("/rollouts/{rollout_id}/deployments", name="list_deployments")
async def list_deployments(
    rollout_id: str,
    call: ViewerCall,
    standing: Standing | None = None,
    after: Annotated[str, Query(max_length=64, description="the last device id seen")] = "",
    limit: Limit = 500,
) -> list[DeploymentItem]:
    """List devices' ways through the rollout, by device id."""
    return await service.list_deployments(call.session, rollout_id, standing=standing, after=after, limit=limit)


@api.post("/rollouts/plan", name="plan_rollout")
async def plan_rollout(body: RolloutPlan, call: ViewerCall) -> ForecastItem:
    """Say what a plan needs on these devices, by their own rates, to see 1.5, 2 and 3 times the events."""
    return await service.plan_rollout(call.session, body)


@api.get("/rollouts/{rollout_id}/tally", name="tally_rollout")
async def tally(rollout_id: str, call: ViewerCall) -> list[TallyItem]:
    """Count devices by site, class and how they stand."""
    return await service.tally(call.session, rollout_id)


@api.get("/rollouts/{rollout_id}/explanation", name="explain_rollout")
async def explain(rollout_id: str, call: ViewerCall) -> Explanation:
    """Say in words how a rollout stands, on what evidence, and what would move it."""
    return await service.explain(call.session, rollout_id)


@api.post("/rollouts/{rollout_id}/replay", name="replay_rollout")
async def replay(rollout_id: str, call: ViewerCall) -> RolloutReplay:
    """Make every kept decision again from what was kept of it, and compare."""
    return await service.replay_rollout(call.session, rollout_id)


@api.get("/devices/{device_id}/explanation", name="explain_device")
async def explain_device(device_id: str, request: Request, call: ViewerCall) -> Explanation:
    """Say in words why a device runs what it runs, and what it waits for."""
    board = await request.app.state.board.fresh(call.session, call.context.objects)
    return await service.explain_device(call.session, board, device_id)


@api.post("/rollouts/{rollout_id}/wishes", status_code=201, name="wish_rollout")
async def wish(rollout_id: str, body: RolloutWish, call: OperatorCall) -> RolloutItem:
    """Start, pause, resume, halt, extend, or let a stage pass."""
    return await service.wish(call.session, call.principal.name, rollout_id, body)


@api.get("/baselines", name="list_baselines")
async def list_baselines(call: WideCall) -> list[BaselineItem]:
    """List what each device class runs when no rollout says otherwise."""
    return await service.list_baselines(call.session)


@api.get("/ledger/versions", name="get_version_ledger")
async def version_ledger(
    call: WideCall, model: Annotated[str | None, Query(max_length=100, description="only of this model")] = None
) -> VersionLedger:
    """Add up what versions cost, per thousand episodes and per promotion, and what the promoted ones prevented."""
    return await service.version_ledger(call.session, model)
