"""Updates on the device: from a signed order to a model that runs, or back.

`machine` decides and is pure; `journal` remembers; `slots` switches; `trust` doubts; `loop` carries out.
"""

from agents.update.effects import Effects, UpdateEffects
from agents.update.journal import Journal
from agents.update.loop import UpdateLoop
from agents.update.machine import Policy, Slot, State, Target
from agents.update.qualify import Qualifier, Verdict
from agents.update.slots import Slots
from agents.update.trust import DirectorCheck, DirectorOnly, RefusedError, TrustPolicy

__all__ = [
    "DirectorCheck",
    "DirectorOnly",
    "Effects",
    "Journal",
    "Policy",
    "Qualifier",
    "RefusedError",
    "Slot",
    "Slots",
    "State",
    "Target",
    "TrustPolicy",
    "UpdateEffects",
    "UpdateLoop",
    "Verdict",
]
