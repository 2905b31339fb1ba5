"""Look at every unfinished rollout, decide, and make it so: row, decision, audit and actions in one transaction."""

from control_plane.rollout.reconcile.keeper import Keeper, tick

__all__ = ["Keeper", "tick"]
