"""Rollouts for other slices and the edges: make and wish, what devices should run, and how far they are."""

from control_plane.rollout.service.bills import version_ledger
from control_plane.rollout.service.board import Board, sign_manifest
from control_plane.rollout.service.explain import STATE, explain, explain_device, replay_rollout, tally
from control_plane.rollout.service.forecast import forecast, plan_rollout
from control_plane.rollout.service.offers import Director, Offers, reply, to_sign
from control_plane.rollout.service.rollouts import (
    ACTOR,
    create_rollout,
    device_history,
    get,
    list_baselines,
    list_decisions,
    list_deployments,
    list_rollouts,
    wish,
)
from control_plane.rollout.service.tracking import asks_for_site, grant_site, tells_news, touch, track
from control_plane.rollout.store import measures

__all__ = [
    "ACTOR",
    "STATE",
    "Board",
    "Director",
    "Offers",
    "asks_for_site",
    "create_rollout",
    "device_history",
    "explain",
    "explain_device",
    "forecast",
    "get",
    "grant_site",
    "list_baselines",
    "list_decisions",
    "list_deployments",
    "list_rollouts",
    "measures",
    "plan_rollout",
    "replay_rollout",
    "reply",
    "sign_manifest",
    "tally",
    "tells_news",
    "to_sign",
    "touch",
    "track",
    "version_ledger",
    "wish",
]
