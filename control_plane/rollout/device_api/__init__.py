"""POST /device/v1/check-in: what a device says of itself, and what it should run."""

from control_plane.rollout.device_api.check_in import device_api
from control_plane.rollout.device_api.quick import QuickCheckIns

__all__ = ["QuickCheckIns", "device_api"]
