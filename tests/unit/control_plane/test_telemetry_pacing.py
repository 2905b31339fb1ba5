"""A fleet is asked to send so often that one process can take it, whatever its size, and settles there."""

import heapq
from itertools import pairwise

import pytest

from control_plane.telemetry.domain.pacing import LONGEST_S, REQUESTS_PER_S, SHORTEST_S, look_s, paced


def driven(devices: int, seconds: float) -> list[tuple[float, float]]:
    """Let devices send at the pace they heard last; return (seconds counted, requests in them) of every look."""
    pace_s, since_s, count = SHORTEST_S, 0.0, 0
    queue = [(SHORTEST_S * i / devices, i) for i in range(devices)]
    looks = []
    while queue[0][0] < seconds:
        now_s, device = heapq.heappop(queue)
        count += 1
        if now_s - since_s >= look_s(pace_s):
            looks.append((now_s - since_s, float(count)))
            pace_s = paced(pace_s, count / (now_s - since_s))
            since_s, count = now_s, 0
        heapq.heappush(queue, (now_s + pace_s, device))
    return looks


@pytest.mark.parametrize("devices", [10, 300, 2_000, 10_000])
def test_it_settles_at_what_a_process_is_to_be_asked(devices: int) -> None:
    rates = [count / seconds for seconds, count in driven(devices, 400.0)]
    wanted = min(devices / SHORTEST_S, REQUESTS_PER_S)
    last = rates[-4:]
    assert all(0.8 * wanted <= rate <= 1.25 * wanted for rate in last), rates
    assert all(abs(after - before) < 0.25 * wanted for before, after in pairwise(last)), rates


def test_a_pace_is_in_proportion_to_what_comes() -> None:
    assert (paced(1.0, 100.0), paced(4.0, 500.0), paced(1.0, 1200.0)) == (1.0, 5.0, 2.0)


def test_it_stays_within_bounds_whatever_is_counted() -> None:
    pace_s = SHORTEST_S
    for _ in range(20):
        pace_s = paced(pace_s, 1e9)
    assert pace_s == LONGEST_S
    for _ in range(20):
        pace_s = paced(pace_s, 0.0)
    assert pace_s == SHORTEST_S
