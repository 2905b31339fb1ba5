"""What happened, on its way to the server: telemetry from the spool, recordings from the outbox.

Both wait for days if they must; both are bounded, and what is lost is counted. `triggers` decides, purely, which
recordings are worth keeping.
"""

from agents.capture.courtesy import Courtesy, Now
from agents.capture.heat import PERIOD_S, HeatLog
from agents.capture.outbox import Outbox
from agents.capture.spool import TelemetrySender
from agents.capture.triggers import Bounds, CaptureRule, CaptureRules
from agents.capture.uploader import RecordingSender, Retry

__all__ = [
    "PERIOD_S",
    "Bounds",
    "CaptureRule",
    "CaptureRules",
    "Courtesy",
    "HeatLog",
    "Now",
    "Outbox",
    "RecordingSender",
    "Retry",
    "TelemetrySender",
]
