"""A model's policy, and what a gate would need under it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from control_plane.evaluation import store
from control_plane.evaluation.domain import Assumptions, GatePolicy, parse_policy, plan_gate
from control_plane.evaluation.schemas import PartPlanItem, PlanCreate
from control_plane.evaluation.service.suites import find_suite, planned
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid
from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem


def policy_of(model: ModelItem, other: Mapping[str, Any] | None = None) -> GatePolicy:
    """Read a model's policy, or another in its place.

    Raises:
        Invalid: it is not understood.
    """
    try:
        return parse_policy(model.gate if other is None else other)
    except ValueError as error:
        raise Invalid(f"the gate policy of {model.name} is not understood: {error}") from error


async def plan(session: Session, body: PlanCreate) -> list[PartPlanItem]:
    """Say before anything is simulated what each part needs and whether the suites have it."""
    model = await registry.get_model(session, body.model)
    policy = policy_of(model, body.policy)
    if body.suites:
        suites = [await find_suite(session, digest) for digest in body.suites]
    else:
        suites = list(await store.newest_suites(session, body.model))
    plans = plan_gate(policy, {s.name: planned(s) for s in suites}, Assumptions(**body.assumptions.model_dump()))
    return [PartPlanItem(**asdict(line)) for line in plans]
