"""The machine the agent runs on, as far as it can be read; absent is absent, never zero. It starts no process."""

from agents.platform.conditions import Conditions
from agents.platform.energy import Energy, EnergyMeter, EnergyReading, between
from agents.platform.facts import Platform, PlatformFacts, platform_of

__all__ = [
    "Conditions",
    "Energy",
    "EnergyMeter",
    "EnergyReading",
    "Platform",
    "PlatformFacts",
    "between",
    "platform_of",
]
