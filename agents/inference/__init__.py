"""Models run here and nowhere else in the agent.

Only `session` and `worker` import numpy and onnxruntime, and they run in a process of their own: a model that crashes
its runtime takes no agent with it.
"""

from agents.inference.pool import QualifierPool, Verdict

__all__ = ["QualifierPool", "Verdict"]
