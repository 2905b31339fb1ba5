"""The gate asked, and what passed it released and planned for the fleet."""

from control_plane.evaluation.domain import Verdict
from control_plane.evaluation.schemas import (
    GateItem,
)
from control_plane.registry.schemas import ReleaseCreate, VersionItem
from control_plane.rollout.schemas import PlanBody, RolloutCreate, RolloutItem, StageBody
from flows.runners.session import RunSession
from flows.runners.stages.evaluate import Evaluated, question_of


def ask_gate(run: RunSession, candidate: VersionItem, champion: VersionItem | None, evaluated: Evaluated) -> GateItem:
    return run.client.ask_gate(question_of(run, candidate, champion, evaluated.suites))


def plan_for(run: RunSession, *, first: bool) -> PlanBody:
    """Return the workload's plan; a first version has nothing to be compared with and goes to all at once."""
    if first:
        return PlanBody(stages=[StageBody(fraction=1.0, must_prove=False)], gravest="off", max_failure_fraction=0.2)
    return PlanBody.model_validate(
        run.workload.spec.rollout
        or {
            "stages": [
                {"fraction": 0.1},
                {"fraction": 0.5, "must_prove": False},
                {"fraction": 1.0, "must_prove": False},
            ]
        }
    )


def promote(run: RunSession, candidate: VersionItem, gate: GateItem, *, first: bool) -> RolloutItem | None:
    """Cut a release and plan its rollout, if the gate passed; people still have to approve it."""
    if gate.verdict is not Verdict.PASS or run.params.get("promote", "auto") != "auto":
        return None
    release = run.client.create_release(
        ReleaseCreate(
            content_digest=candidate.content_digest,
            device_classes=[run.workload.spec.device_class],
            reason=f"run {run.run_id}",
        ),
        key=f"release-{run.run_id}",
    )
    return run.client.create_rollout(
        RolloutCreate(release=release.digest, plan=plan_for(run, first=first), gate_id=gate.id),
        key=f"rollout-{run.run_id}",
    )
