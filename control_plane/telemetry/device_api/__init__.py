"""What devices send: telemetry and recordings."""

from control_plane.telemetry.device_api.quick import QuickTelemetry
from control_plane.telemetry.device_api.routes import device_api

__all__ = ["QuickTelemetry", "device_api"]
