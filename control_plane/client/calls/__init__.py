"""Every call of the API, defined once: what is asked and what comes back."""

from control_plane.client.calls.evaluation import EvaluationCalls
from control_plane.client.calls.factory import FactoryCalls
from control_plane.client.calls.fleet import FleetCalls
from control_plane.client.calls.learning import LearningCalls
from control_plane.client.calls.people import PeopleCalls
from control_plane.client.calls.pipelines import PipelinesCalls
from control_plane.client.calls.registry import RegistryCalls
from control_plane.client.calls.rollout import RolloutCalls
from control_plane.client.calls.webhooks import WebhooksCalls


class Calls(
    EvaluationCalls,
    FactoryCalls,
    FleetCalls,
    LearningCalls,
    PeopleCalls,
    PipelinesCalls,
    RegistryCalls,
    RolloutCalls,
    WebhooksCalls,
):
    """All of them."""


__all__ = ["Calls"]
