"""What a robot application imports: which model is active, and a place to leave what happened.

The application and the agent meet in a *state directory*. Nothing here opens a socket, and nothing here waits for the
agent: if it is stopped for days, reports collect in the spool and recordings in the outbox, both bounded.

    robot = Robot(Path("/var/lib/fleetloop"))
    model = robot.active_model()                  # one readlink; ask as often as you like
    robot.report_health(model.content_digest, ok=True)
    robot.set_motion(safe_to_switch=False)
"""

from agents.sdk.layout import ActiveModel, StateDir
from agents.sdk.recorder import Recorder
from agents.sdk.robot import Event, NotEnrolledError, Robot, Window
from agents.sdk.shadow import ShadowTap
from agents.sdk.spool import SpoolError

__all__ = [
    "ActiveModel",
    "Event",
    "NotEnrolledError",
    "Recorder",
    "Robot",
    "ShadowTap",
    "SpoolError",
    "StateDir",
    "Window",
]
