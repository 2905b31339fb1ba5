"""What is shown of a drive seen from above: what stands, the robot, and step by step where it and the movers are.

A gate's replays and what a device recorded are the same to who looks, and to the script that draws them.
"""

from typing import Annotated

from pydantic import Field

from control_plane.kit.pages import Lenient

MAX_STEPS, MAX_RAYS, MAX_MOVERS = 400, 60, 64

Places = Annotated[list[tuple[float, float]], Field(max_length=200)]


class ReplayWorld(Lenient):
    """What stands still: rectangles as centre and half sizes, and lines of points, in metres."""

    rectangles: list[tuple[float, float, float, float]] = Field(default_factory=list, max_length=200)
    polylines: list[Places] = Field(default_factory=list, max_length=200)


class ReplayRobot(Lenient):
    radius_m: float = Field(gt=0)
    range_m: float = Field(default=0, ge=0)
    ray_angles_rad: list[float] = Field(default_factory=list, max_length=MAX_RAYS)


class ReplayStep(Lenient):
    t_s: float
    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    movers: list[tuple[float, float, float]] = Field(default_factory=list, max_length=MAX_MOVERS)
    ranges_m: list[float] = Field(default_factory=list, max_length=MAX_RAYS)
    command: tuple[float, float] | None = None
    clearance_m: float | None = None
    ttc_s: float | None = None


class RecordedReplay(Lenient):
    """What a recording shows. `triggered_t_s` is when its trigger was, on the clock of the steps, if it says."""

    dt_s: float = Field(gt=0)
    world: ReplayWorld
    robot: ReplayRobot
    steps: list[ReplayStep] = Field(min_length=1, max_length=MAX_STEPS)
    triggered_t_s: float | None = None
