"""Owns the physical world: the robot and its lidar in MuJoCo, the size of things, and exact geometry of boxes."""

from functools import cache

import mujoco
import numpy as np

from flows.workloads.kit.types import Array

SIMULATOR = f"warehouse-amr@1+mujoco-{mujoco.__version__}"

BOXES, MOVERS = 16, 4
FAR_M = 500.0  # where unused boxes are parked
ROBOT_RADIUS_M = 0.32
ROBOT_MASS_KG = 70.0
WHEEL_RADIUS_M, HALF_TRACK_M = 0.1, 0.25
WHEEL_TORQUE_NM = 11.0
MAX_SPEED_MPS, MAX_TURN_RADPS = 1.5, 1.5

CONTROL_S = 0.1
SUBSTEPS = 5
# Ten substeps of 10 ms cost twice as much and change no conclusion.
TIMESTEP_S = CONTROL_S / SUBSTEPS

RAYS = 60
RANGE_M = 8.0
FIELD_OF_VIEW_RAD = float(np.deg2rad(270.0))
RAY_ANGLES_RAD = np.linspace(-FIELD_OF_VIEW_RAD / 2, FIELD_OF_VIEW_RAD / 2, RAYS).astype(np.float32)
LIDAR_GROUPS = np.array([1, 0, 0, 0, 0, 0], np.uint8)  # the robot and the floor are in group 1

# Where things lie in qpos and qvel: x, y, z, yaw, left wheel, right wheel.
X, Y, YAW, LEFT, RIGHT = 0, 1, 3, 4, 5

_PARKED = 'pos="0 0 -20" contype="0" conaffinity="0"'
_CONTACT = 'solref=".04 1"'  # no stiffer than twice the time step


def _wheel(name: str, side: int) -> str:
    return (
        f'<body name="{name}" pos="0 {side * HALF_TRACK_M} 0">'
        f'<joint name="{name}" type="hinge" axis="0 1 0" armature="0.02" damping="0.02"/>'
        f'<geom type="sphere" size="{WHEEL_RADIUS_M}" mass="2" friction="1 .005 .0001" {_CONTACT}/></body>'
    )


def _xml() -> str:
    boxes = "".join(f'<geom name="box{i}" type="box" size="1 1 .5" {_PARKED}/>' for i in range(BOXES))
    movers = "".join(
        f'<body name="mover{i}" mocap="true" pos="0 0 -20">'
        f'<geom name="mover{i}" type="cylinder" size=".3 .5" contype="0" conaffinity="0"/></body>'
        for i in range(MOVERS)
    )
    motors = "".join(
        f'<velocity joint="{name}" kv="40" forcerange="{-WHEEL_TORQUE_NM} {WHEEL_TORQUE_NM}"/>' for name in ("wl", "wr")
    )
    return f"""<mujoco><compiler angle="radian"/>
<option timestep="{TIMESTEP_S}" integrator="implicitfast" cone="pyramidal" iterations="10" ls_iterations="10">
<flag eulerdamp="disable"/></option>
<worldbody>
<geom name="floor" type="plane" size="0 0 1" priority="1" friction="0.8 .005 .0001" group="1" {_CONTACT}/>
{boxes}{movers}
<body name="base" pos="0 0 {WHEEL_RADIUS_M}">
<joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/><joint type="slide" axis="0 0 1"/>
<joint type="hinge" axis="0 0 1"/>
<geom type="cylinder" size=".3 .12" pos="0 0 .12" mass="{ROBOT_MASS_KG - 4}" contype="0" conaffinity="0" group="1"/>
{_wheel("wl", 1)}{_wheel("wr", -1)}</body>
</worldbody>
<actuator>{motors}</actuator></mujoco>"""


@cache
def model() -> mujoco.MjModel:
    """The robot on wheels that can slip; racks and movers are seen by the lidar and judged geometrically."""
    return mujoco.MjModel.from_xml_string(_xml())


@cache
def geom_id(name: str) -> int:
    return int(mujoco.mj_name2id(model(), mujoco.mjtObj.mjOBJ_GEOM, name))


@cache
def base_id() -> int:
    return int(mujoco.mj_name2id(model(), mujoco.mjtObj.mjOBJ_BODY, "base"))


def box_distance_m(boxes: Array, x: Array, y: Array) -> Array:
    """The signed distance from a point to the nearest of its row's boxes (n, boxes, [x, y, half x, half y])."""
    dx = np.abs(x[:, None] - boxes[:, :, 0]) - boxes[:, :, 2]
    dy = np.abs(y[:, None] - boxes[:, :, 1]) - boxes[:, :, 3]
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    distance: Array = (outside + np.minimum(np.maximum(dx, dy), 0)).min(1)
    return distance


def line_of_sight(boxes: Array, x: Array, y: Array, targets: Array, radius: Array) -> Array:
    """Whether the robot can see any of three points across each target (n, targets, 2), over the boxes."""
    origin = np.stack([x, y], 1)[:, None]
    to = targets - origin
    far = np.hypot(to[..., 0], to[..., 1]) + 1e-6
    across = np.stack([-to[..., 1], to[..., 0]], 2) / far[..., None]
    seen = np.zeros(far.shape, bool)
    for part in (0.0, 0.7, -0.7):
        seen |= ~_blocked(boxes, origin, to + across * (part * radius)[..., None])
    near: Array = far < RANGE_M + 1.0
    return seen & near


def _blocked(boxes: Array, origin: Array, to: Array) -> Array:
    low, high = boxes[:, None, :, :2] - boxes[:, None, :, 2:], boxes[:, None, :, :2] + boxes[:, None, :, 2:]
    step = np.where(np.abs(to) < 1e-6, 1e-6, to)[:, :, None]
    first, second = (low - origin[:, :, None]) / step, (high - origin[:, :, None]) / step
    enter, leave = np.minimum(first, second).max(-1), np.maximum(first, second).min(-1)
    blocked: Array = ((enter < leave) & (leave > 0) & (enter < 1)).any(2)
    return blocked
