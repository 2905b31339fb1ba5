"""Decisions about jobs: what may happen next, where they run, what they cost."""

from control_plane.factory.domain.jobs import (
    MAX_ATTEMPTS,
    Cost,
    JobCost,
    JobState,
    KindCost,
    Outcome,
    Profile,
    after_attempt,
    cost_of,
    may_start,
    same_command,
)
from control_plane.factory.domain.placement import Needs, Option, Place, Placement, Policy, expected_s, place, weigh

__all__ = [
    "MAX_ATTEMPTS",
    "Cost",
    "JobCost",
    "JobState",
    "KindCost",
    "Needs",
    "Option",
    "Outcome",
    "Place",
    "Placement",
    "Policy",
    "Profile",
    "after_attempt",
    "cost_of",
    "expected_s",
    "may_start",
    "place",
    "same_command",
    "weigh",
]
