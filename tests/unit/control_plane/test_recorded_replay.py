"""What a recording shows: decoded by its own layouts alone, thinned, and refused plainly whatever it claims."""

import copy
import json
import math
import random
import struct
import time
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from control_plane.telemetry.domain import MAX_STEPS, RecordingError, inspect_recording, replay_of
from control_plane.telemetry.domain.contents import MAX_KEPT, Kept
from control_plane.telemetry.domain.layout import read_layout
from tests.support import mcap
from tests.support.described import LAYOUTS, POSE, SCENE, described, messages_at

MOST = 64 << 20


def changed(topic: str, **changes: Any) -> dict[str, Any]:
    layouts = copy.deepcopy(LAYOUTS)
    layouts[topic] |= changes
    return layouts


def test_a_robot_that_is_none_of_ours_is_shown_by_its_own_layouts() -> None:
    found = replay_of(described(), MOST)
    assert (len(found.steps), found.dt_s, found.triggered_t_s) == (60, 0.1, 4.0)
    assert found.world.rectangles[0] == (5, 3, 6, 1)
    assert (found.robot.radius_m, found.robot.range_m, len(found.robot.ray_angles_rad)) == (0.3, 8.0, 24)
    step = found.steps[10]
    assert (step.t_s, step.x_m, step.speed_mps, step.command) == (1.0, 1.0, 1.0, (1.0, -0.042))
    assert step.movers == [(4.0, 1.3, 0.3)], "the mover of radius 0 is not there"
    assert step.clearance_m == pytest.approx(math.hypot(3, 1.3 - step.y_m) - 0.6, abs=2e-3)
    assert step.ranges_m[12] == 8.0
    assert inspect_recording(described(), MOST)["messages"] == 180


def test_what_is_not_described_is_left_out_rather_than_made_up() -> None:
    alone = replay_of(described(layouts={"/pose": LAYOUTS["/pose"]}, scene=None, triggered=None), MOST)
    step = alone.steps[0]
    assert (step.movers, step.ranges_m, step.command, step.clearance_m) == ([], [], None, None)
    assert (alone.world.rectangles, alone.triggered_t_s) == ([], None)


def test_a_recording_from_before_says_that_it_does_not_describe_itself() -> None:
    people = described(layouts={"/people": LAYOUTS["/people"]})
    for data in (mcap.recording(), described(layouts={"/pose": b""}), people):
        with pytest.raises(RecordingError, match=r"does not describe itself|do not say where the robot was"):
            replay_of(data, MOST)
    with pytest.raises(RecordingError, match="like those of older recorders"):
        replay_of(described(layouts={"/pose": b""}), MOST)


def test_a_long_recording_is_thinned_and_keeps_its_ends() -> None:
    long = replay_of(described(3 * MAX_KEPT + 2, scene=None), MOST)
    assert len(long.steps) == MAX_STEPS
    assert (long.steps[0].t_s, long.steps[-1].t_s) == (0.0, round((3 * MAX_KEPT + 1) / 10, 3))
    gaps = np.diff([step.t_s for step in long.steps])
    assert gaps.min() > 0.5 * np.median(gaps)


def test_of_many_messages_every_second_is_forgotten_but_never_the_last() -> None:
    kept = Kept("/pose", read_layout(json.dumps(LAYOUTS["/pose"]).encode()))
    for count in range(1, 3 * MAX_KEPT):
        kept.add(count, memoryview(bytes(POSE.size)))
        if count % 997 == 0 or count % MAX_KEPT < 3:
            rows = kept.rows
            assert (rows[0][0], rows[-1][0]) == (1, count)
            assert len(rows) <= MAX_KEPT + 1
            assert len({log_time for log_time, _ in rows}) == len(rows)


def test_many_rays_are_thinned_with_their_bearings() -> None:
    scan = {"name": "scan", "type": "f4", "shape": [1080]}
    layouts = {
        "/pose": LAYOUTS["/pose"],
        "/seen": {"schema": "fleetloop.layout/v1", "fields": [scan], "replay": {"ranges_m": "scan"}},
    }
    ranges = [1.0] + [math.nan, math.inf, -1.0] + [2.0] * 1075 + [3.0]
    found = replay_of(described(5, layouts=layouts, payloads={"/seen": struct.pack("<1080f", *ranges)}), MOST)
    assert len(found.robot.ray_angles_rad) == len(found.steps[0].ranges_m) == 60
    assert (found.robot.ray_angles_rad[0], found.robot.ray_angles_rad[-1]) == (-2.0, 2.0)
    assert (found.steps[0].ranges_m[0], found.steps[0].ranges_m[-1]) == (1.0, 3.0)


def test_a_ray_that_met_nothing_reads_the_whole_range() -> None:
    seen = {"name": "scan", "type": "f4", "shape": [4]}
    layouts = {
        "/pose": LAYOUTS["/pose"],
        "/seen": {"schema": "fleetloop.layout/v1", "fields": [seen], "replay": {"ranges_m": "scan"}},
    }
    payload = struct.pack("<4f", 1.5, math.nan, math.inf, -1.0)
    assert replay_of(described(2, layouts=layouts, payloads={"/seen": payload}), MOST).steps[0].ranges_m == [
        1.5,
        8,
        8,
        8,
    ]


def test_moments_at_which_nobody_knows_the_place_are_left_out() -> None:
    nowhere = POSE.pack(math.nan, 0, 0, 1, 0)
    with pytest.raises(RecordingError, match="at no time does it say where"):
        replay_of(described(5, payloads={"/pose": nowhere}), MOST)
    for far in (math.inf, 1e300, -1e7):
        with pytest.raises(RecordingError, match="at no time"):
            replay_of(described(5, payloads={"/pose": POSE.pack(far, 0, 0, 1, 0)}), MOST)


def test_the_event_is_when_the_workload_says_else_when_the_recorder_was_told() -> None:
    assert replay_of(described(scene=SCENE | {"event_log_time_ns": 2_500_000_000}), MOST).triggered_t_s == 2.5
    assert replay_of(described(triggered=59), MOST).triggered_t_s == 5.9
    assert replay_of(described(triggered=5000), MOST).triggered_t_s is None
    for absurd in ("1" + "0" * 4000, "-1", "1.5", "true", '"1"'):
        scene = json.dumps(SCENE | {"event_log_time_ns": 0}).replace('_ns": 0', f'_ns": {absurd}')
        with pytest.raises(RecordingError, match="metadata replay is wrong"):
            replay_of(described(scene=scene), MOST)


FIELD = {"name": "pose", "type": "f8", "shape": [4]}
HOSTILE: dict[str, Any] = {
    "no JSON": b"{",
    "a list": b"[]",
    "deep": b"[" * 30_000,
    "NaN": b'{"schema": "fleetloop.layout/v1", "fields": [{"name": "x", "type": "f4", "shape": [NaN]}]}',
    "twice": b'{"schema": "fleetloop.layout/v1", "schema": "fleetloop.layout/v1", "fields": []}',
    "another version": changed("/pose", schema="fleetloop.layout/v2")["/pose"],
    "no fields": changed("/pose", fields=[])["/pose"],
    "too many fields": changed("/pose", fields=[FIELD | {"name": f"f{i}"} for i in range(300)])["/pose"],
    "a name twice": changed("/pose", fields=[FIELD, FIELD])["/pose"],
    "a type that is none": changed("/pose", fields=[FIELD | {"type": "O"}])["/pose"],
    "big-endian": changed("/pose", fields=[FIELD | {"type": ">f8"}])["/pose"],
    "a negative shape": changed("/pose", fields=[FIELD | {"shape": [-4]}])["/pose"],
    "a shape of none": changed("/pose", fields=[FIELD | {"shape": [0]}])["/pose"],
    "a huge shape": changed("/pose", fields=[FIELD | {"shape": [65536, 65536, 65536, 65536]}])["/pose"],
    "beyond numbers": changed("/pose", fields=[FIELD | {"shape": [10**30]}])["/pose"],
    "a shape in words": changed("/pose", fields=[FIELD | {"shape": ["4"]}])["/pose"],
    "five dimensions": changed("/pose", fields=[FIELD | {"shape": [1, 1, 1, 1, 4]}])["/pose"],
    "a field that is not there": changed("/pose", replay={"x_m": "nowhere"})["/pose"],
    "outside": changed("/pose", replay={"x_m": {"field": "pose", "take": [4]}})["/pose"],
    "from the end": changed("/pose", replay={"x_m": {"field": "pose", "take": [-1]}})["/pose"],
    "too deep": changed("/pose", replay={"x_m": {"field": "pose", "take": [0, 0]}})["/pose"],
    "not one number": changed("/pose", replay={"x_m": "pose"})["/pose"],
    "a quantity nobody knows": changed("/pose", replay={"mood": "pose"})["/pose"],
    "an infinite scale": b'{"schema": "fleetloop.layout/v1", "fields": [{"name": "x", "type": "f4"}],'
    b' "replay": {"x_m": {"field": "x", "scale": 1e999}}}',
    "replay is a list": changed("/pose", replay=["x_m"])["/pose"],
    "other messages": changed("/pose", fields=[FIELD])["/pose"],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_layout_is_refused_by_name(kind: str) -> None:
    with pytest.raises(RecordingError, match=r"/pose"):
        replay_of(described(layouts=LAYOUTS | {"/pose": HOSTILE[kind]}), MOST)


SCENES: dict[str, Any] = {
    "no JSON": "{",
    "a list": "[]",
    "too large": json.dumps(SCENE | {"note": "x" * 70_000}),
    "NaN": '{"robot": {"radius_m": NaN}}',
    "a robot of no size": SCENE | {"robot": {"radius_m": 0}},
    "bearings for other rays": SCENE | {"robot": {"radius_m": 1, "ray_angles_rad": [0.0, 1.0]}},
    "sizes for other movers": SCENE | {"movers_radius_m": [0.3]},
    "too many movers": SCENE | {"movers_radius_m": [0.3] * 65},
    "too many walls": SCENE | {"world": {"polylines": [[[0, 0], [1, 1]]] * 300}},
    "a wall of words": SCENE | {"world": {"rectangles": [["a", "b", "c", "d"]]}},
}


@pytest.mark.parametrize("kind", SCENES)
def test_a_hostile_scene_is_refused(kind: str) -> None:
    with pytest.raises(RecordingError, match=r"replay is wrong|bearings|movers"):
        replay_of(described(scene=SCENES[kind]), MOST)


def test_two_topics_must_not_say_where_the_robot_was() -> None:
    with pytest.raises(RecordingError, match="both say that they have speed_mps, x_m, y_m, yaw_rad"):
        replay_of(described(layouts=LAYOUTS | {"/other": LAYOUTS["/pose"]}), MOST)


def test_log_times_without_bounds_are_refused() -> None:
    with pytest.raises(RecordingError, match="spans more than"):
        replay_of(described(3, step_ns=10**15), MOST)


def test_a_file_changed_anywhere_is_shown_or_refused_and_nothing_else() -> None:
    rng, good = random.Random(5), described(8)
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(8, len(data) - 8)] = rng.randrange(256)
        with suppress(RecordingError):
            inspect_recording(bytes(data), 1 << 20)
        try:
            found = replay_of(bytes(data), 1 << 20)
        except RecordingError:
            continue
        assert len(found.steps) <= MAX_STEPS


def test_a_file_cut_anywhere_is_refused() -> None:
    good = described(4)
    for end in range(0, len(good), 37):
        with pytest.raises(RecordingError):
            replay_of(good[:end], 1 << 20)


def test_layouts_changed_anywhere_are_shown_or_refused_and_nothing_else() -> None:
    rng, texts = random.Random(6), {topic: json.dumps(layout).encode() for topic, layout in LAYOUTS.items()}
    for _ in range(600):
        topic = rng.choice(list(texts))
        text = bytearray(texts[topic])
        for _ in range(rng.choice((1, 2, 4))):
            text[rng.randrange(len(text))] = rng.choice(b'0123456789-e.,:"[]{}xfiu')
        try:
            replay_of(described(4, layouts=LAYOUTS | {topic: bytes(text)}), 1 << 20)
        except RecordingError:
            continue


def test_a_large_recording_costs_bounded_memory_and_time() -> None:
    """Messages of 64 KiB, 64 MiB of them, of which some hundred are kept."""
    wide = {"name": "wide", "type": "u1", "shape": [65_496]}
    layouts = changed("/pose", fields=[*LAYOUTS["/pose"]["fields"], wide])
    data = described(1000, layouts=layouts, payloads={"/pose": messages_at(3)["/pose"] + bytes(65_496)})
    begun = time.monotonic()
    tracemalloc.start()
    found = replay_of(data, 256 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 32 < len(found.steps) <= MAX_STEPS
    assert peak < 48 << 20, f"{peak >> 20} MiB"
    assert time.monotonic() - begun < 20
