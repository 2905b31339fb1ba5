"""Models run here and nowhere else in the agent.

What imports numpy and onnxruntime (`worker` and what it imports) runs in processes of its own: a model that crashes its
runtime takes no agent with it. `pool`, `shadows` and what they import carry neither.
"""

from agents.inference.demands import Demands
from agents.inference.pool import DeviceQualifier, QualifierPool, Surroundings, Verdict
from agents.inference.shadows import DeviceShadow, ShadowVerdict
from agents.protocol.v1.contract import Budget

__all__ = [
    "Budget",
    "Demands",
    "DeviceQualifier",
    "DeviceShadow",
    "QualifierPool",
    "ShadowVerdict",
    "Surroundings",
    "Verdict",
]
