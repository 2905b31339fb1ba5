"""Facts about the machine the agent runs on, as far as they are there to read; absent is absent, never zero."""

from agents.platform.facts import PlatformFacts

__all__ = ["PlatformFacts"]
