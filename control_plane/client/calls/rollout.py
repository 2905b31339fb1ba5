"""Rollouts, and what devices do because of them."""

from control_plane.client.ask import Ask, Call, Pages, Walk, create, get, post, segment
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


class RolloutCalls:
    @Call
    def create_rollout(self, body: RolloutCreate, key: str | None = None) -> Ask[RolloutItem]:
        """Plan a release's way to devices."""
        return create(RolloutItem, "/rollouts", body, key)

    @Call
    def get_rollout(self, rollout_id: str) -> Ask[RolloutItem]:
        """Return one rollout."""
        return get(RolloutItem, f"/rollouts/{segment(rollout_id)}")

    @Walk
    def list_rollouts(self) -> Pages[RolloutItem]:
        """Walk rollouts, newest first."""
        return Pages(RolloutItem, "/rollouts")

    @Call
    def rollout_decisions(self, rollout_id: str) -> Ask[list[DecisionItem]]:
        """List what was decided about a rollout, oldest first."""
        return get(list[DecisionItem], f"/rollouts/{segment(rollout_id)}/decisions")

    @Walk
    def list_deployments(self, rollout_id: str) -> Pages[DeploymentItem]:
        """Walk all devices of a rollout."""
        return Pages(DeploymentItem, f"/rollouts/{segment(rollout_id)}/deployments", last=lambda item: item.device_id)

    @Call
    def wish_rollout(self, rollout_id: str, body: RolloutWish) -> Ask[RolloutItem]:
        """Say what a person wants of a rollout: pause, resume, halt, proceed, extend."""
        return post(RolloutItem, f"/rollouts/{segment(rollout_id)}/wishes", body)

    @Call
    def plan_rollout(self, body: RolloutPlan) -> Ask[ForecastItem]:
        """Say what a plan needs on these devices; nothing is made."""
        return post(ForecastItem, "/rollouts/plan", body)

    @Call
    def tally_rollout(self, rollout_id: str) -> Ask[list[TallyItem]]:
        """Count the devices of a rollout by how they stand."""
        return get(list[TallyItem], f"/rollouts/{segment(rollout_id)}/tally")

    @Call
    def explain_rollout(self, rollout_id: str) -> Ask[Explanation]:
        """Say in words how a rollout stands."""
        return get(Explanation, f"/rollouts/{segment(rollout_id)}/explanation")

    @Call
    def explain_device(self, device_id: str) -> Ask[Explanation]:
        """Say in words why a device runs what it runs."""
        return get(Explanation, f"/devices/{segment(device_id)}/explanation")

    @Call
    def replay_rollout(self, rollout_id: str) -> Ask[RolloutReplay]:
        """Make every kept decision once more, and compare."""
        return post(RolloutReplay, f"/rollouts/{segment(rollout_id)}/replay")

    @Call
    def list_baselines(self) -> Ask[list[BaselineItem]]:
        """List what each device class runs by default."""
        return get(list[BaselineItem], "/baselines")

    @Call
    def version_ledger(self, model: str | None = None) -> Ask[VersionLedger]:
        """Add up what versions cost, and what the promoted ones prevented."""
        return get(VersionLedger, "/ledger/versions", model=model)
