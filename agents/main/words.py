"""What each phase and reason means, and what would move the device on; the codes are those of reports and journal."""

from typing import Final

from agents.protocol.v1 import DeploymentPhase

PHASES: Final = {
    DeploymentPhase.IDLE: ("No release is ordered.", "an order of the server"),
    DeploymentPhase.DOWNLOADING: ("Files of the ordered release are being fetched.", "the files; what is here is kept"),
    DeploymentPhase.VERIFIED: ("Every file is here and verified.", "the slot being written"),
    DeploymentPhase.QUALIFYING: ("The model is being tried out on this device, without acting.", "the result"),
    DeploymentPhase.SHADOW: ("The candidate runs beside the active model, without acting.", "enough samples"),
    DeploymentPhase.ARMED: (
        "The model is ready and waits for a safe moment to switch.",
        "a moment in which the robot may switch: the application calls robot.set_motion(True)",
    ),
    DeploymentPhase.TRIAL: (
        "The model runs on trial; the one before it stands by.",
        "the application's word: robot.report_health(content_digest, ok=True)",
    ),
    DeploymentPhase.COMMITTED: ("The ordered release runs.", "nothing: the ordered release runs"),
    DeploymentPhase.REVERTED: (
        "The last release failed here; the one before it runs again.",
        "another order: this content is not tried again under its counter",
    ),
    DeploymentPhase.REFUSED: ("The ordered release was refused.", "another order: the last release was refused"),
}

REASONS: Final = {
    "waiting_safe_state": ("the safe state does not hold", "each of what is named"),
    "waiting_site": (
        "enough other devices of this site are switching",
        "their trials to end; the server then lets this device out",
    ),
    "moving": ("the application says it may not switch now", "robot.set_motion(True)"),
    "order_expired": ("the order is too old to act on", "a check-in that reaches the server"),
    "awaiting_health": ("the application has not said how the model runs", "robot.report_health(...)"),
    "unhealthy": ("the application said in the trial that the model does not run", "a release with another content"),
    "unhealthy_later": (
        "the application said after the trial that the model does not run",
        "a release with another content, or the same under a new counter",
    ),
    "no_health_report": ("nobody said how the model runs before the deadline", "an application that reports health"),
    "restarts": ("the device started again too often during the trial", "a release with another content"),
    "revoked": ("the release was revoked", "another release"),
    "known_bad": ("this content failed here before under this counter", "a new counter or another content"),
    "counter_below_floor": ("a newer release was committed here", "a release with a higher counter"),
    "not_qualified": ("the model did not do on this device what it must", "a model that does"),
    "qualifying_crashed": ("trying it out ended the agent several times", "another release"),
    "slot_damaged": ("the slot no longer held what was verified", "the server's order: it is fetched again"),
    "withdrawn": ("the order was withdrawn during the trial", "another order"),
    "disk_reserve": (
        "there is not enough room on the disk",
        "room on the disk, or a smaller download.disk_reserve_bytes",
    ),
    "disk_error": ("the disk does not take what must be written", "a disk that works"),
    "clock_behind": ("the clock is behind what the fleet has signed", "the right time"),
    "server_unreachable": ("the server cannot be reached", "the network"),
    "no_trust_policy": ("no trust policy was read yet", "a server that publishes one"),
    "shadow_unavailable": ("a shadow is asked for, and this agent runs none", "an order without one, or another agent"),
}
"""Why, and what would change it. A code that is not here speaks for itself, with the detail beside it."""


def waits_for(phase: DeploymentPhase, reason: str | None, detail: str) -> str:
    """Return in a few words what the device waits for."""
    if reason == "waiting_safe_state":
        return f"a safe state: {detail}"
    if reason in REASONS and phase is not DeploymentPhase.COMMITTED:
        why, moves = REASONS[reason]
        return f"{moves} ({why})"
    return PHASES[phase][1]
