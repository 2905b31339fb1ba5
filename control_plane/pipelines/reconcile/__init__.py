"""Keep every open run in somebody's hands: the keeper's tick, the Orchestrator port and its adapters."""

from control_plane.pipelines.reconcile.keeper import Orchestrator, tick
from control_plane.pipelines.reconcile.orchestrators import (
    NoOrchestrator,
    PrefectOrchestrator,
    SubprocessOrchestrator,
)

__all__ = ["NoOrchestrator", "Orchestrator", "PrefectOrchestrator", "SubprocessOrchestrator", "tick"]
