"""How things are now, as a safe state asks for it: the platform's readings and the application's word together."""

from collections.abc import Callable
from datetime import datetime, timezone
from typing import TypeVar

from agents.platform.conditions import Conditions
from agents.protocol.v1.safe_state import Circumstances, standing
from agents.sdk.signals import Motion

_T = TypeVar("_T", bool, float)


class Present:
    """`metered` is the operator's word on the network, which the platform often cannot tell."""

    def __init__(
        self,
        conditions: Callable[[], Conditions],
        motion: Callable[[], Motion | None],
        time_floor: Callable[[], datetime],
        *,
        metered: bool | None = None,
    ) -> None:
        self._conditions, self._motion, self._time_floor = conditions, motion, time_floor
        self._metered = metered

    def __call__(self) -> Circumstances:
        """Look; an old word of the application counts as none."""
        machine, said = self._conditions(), self._motion()
        told = said if said is not None and said.fresh else None
        now = datetime.now(timezone.utc)
        return Circumstances(
            safe_to_switch=told.safe_to_switch if told else None,
            stopped=standing(told.speed_m_s, told.safe_to_switch) if told else None,
            docked=told.docked if told else None,
            external_power=_first(told.external_power if told else None, machine.on_external_power),
            metered=self.metered(machine),
            throttled=machine.throttled,
            battery=_first(told.battery_percent if told else None, machine.battery_percent),
            temperature_c=machine.temperature_c,
            load=machine.load_per_core,
            gpu_load=machine.gpu_load_percent,
            speed_m_s=told.speed_m_s if told else None,
            # A clock behind what the fleet has signed shows no time of day.
            now=now if now >= self._time_floor() else None,
        )

    def metered(self, machine: Conditions) -> bool | None:
        return _first(self._metered, machine.network_metered)


def _first(told: _T | None, read: _T | None) -> _T | None:
    return read if told is None else told
