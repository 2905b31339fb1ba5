"""Incidents of the field as scenarios: what became of driving them again with the model that was to blame."""

from control_plane.audit import service as audit
from control_plane.evaluation import store
from control_plane.evaluation.domain import COUNTS, ScenarioState, state_after
from control_plane.evaluation.models import IncidentScenario
from control_plane.evaluation.schemas import ScenarioCheck, ScenarioItem, ScenarioWish
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, NotFound
from control_plane.registry import service as registry

SAID = {
    ScenarioState.EXTRACTED: "not driven again yet",
    ScenarioState.REPRODUCES: "it happened again with every seed",
    ScenarioState.FLAKY: "it happened again with some seeds only",
    ScenarioState.NOT_REPRODUCED: "it did not happen again",
}


async def put_scenario(session: Session, actor: str, model: str, source: str, body: ScenarioCheck) -> ScenarioItem:
    """Record what driving an incident again came to; what people decided about it stands."""
    await registry.get_model(session, model)
    before = await store.find_scenario(session, model, source)
    known = ScenarioState(before.state) if before else None
    try:
        state = state_after(body.seeds, body.failures, known) if body.seeds else known or ScenarioState.EXTRACTED
    except ValueError as error:
        raise Invalid(str(error), code="impossible_counts") from error
    because = before.because if before and state is known and not body.seeds else SAID.get(state, "people decided")
    values = {
        "model": model,
        "source": source,
        "recording": body.recording,
        "guilty": body.guilty,
        "seeds": body.seeds,
        "failures": body.failures,
        "state": state,
        "because": f"{because} ({body.failures} of {body.seeds} seeds)" if body.seeds else because,
        "changed_by": actor,
    }
    await store.put_scenario(session, values)
    return await get_scenario(session, model, source)


async def wish_scenario(session: Session, actor: str, model: str, source: str, body: ScenarioWish) -> ScenarioItem:
    """Let a person keep an incident as a regression test although it does not always happen, or take it out."""
    found = await _find(session, model, source)
    found.state = ScenarioState.ACCEPTED if body.action == "accept" else ScenarioState.RETIRED
    found.because, found.changed_by = body.reason, actor
    await session.flush()
    await audit.record(session, actor, f"scenario.{body.action}", source, body.reason, model=model)
    return _item(found)


async def get_scenario(session: Session, model: str, source: str) -> ScenarioItem:
    return _item(await _find(session, model, source))


async def list_scenarios(session: Session, model: str) -> list[ScenarioItem]:
    return [_item(found) for found in await store.list_scenarios(session, model)]


async def left_out(session: Session, model: str) -> tuple[str, ...]:
    """Name the incidents that were looked at and say nothing about a model."""
    return tuple(s.source for s in await store.list_scenarios(session, model) if s.state not in COUNTS)


async def _find(session: Session, model: str, source: str) -> IncidentScenario:
    found = await store.find_scenario(session, model, source)
    if found is None:
        raise NotFound(f"there is no scenario of {source} for {model}")
    return found


def _item(found: IncidentScenario) -> ScenarioItem:
    return ScenarioItem.model_validate(found, from_attributes=True)
