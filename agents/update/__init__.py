"""Updates on the device: from a signed order to a model that runs, or back.

`machine` decides and is pure; `journal` remembers; `slots` switches; `trust` doubts; `loop` carries out.
"""

from agents.update.admission import SignedByAll
from agents.update.anchor import Anchor
from agents.update.effects import Effects, UpdateEffects
from agents.update.journal import Journal
from agents.update.loop import UpdateLoop
from agents.update.machine import Policy, Slot, State, Target
from agents.update.qualify import Qualifier, Verdict
from agents.update.refresh import DeviceRepository, Trust, TufProcess
from agents.update.safety import Safety
from agents.update.slots import Slots
from agents.update.trust import DirectorCheck, RefusedError, TrustPolicy

__all__ = [
    "Anchor",
    "DeviceRepository",
    "DirectorCheck",
    "Effects",
    "Journal",
    "Policy",
    "Qualifier",
    "RefusedError",
    "Safety",
    "SignedByAll",
    "Slot",
    "Slots",
    "State",
    "Target",
    "Trust",
    "TrustPolicy",
    "TufProcess",
    "UpdateEffects",
    "UpdateLoop",
    "Verdict",
]
