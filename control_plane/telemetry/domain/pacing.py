"""How often devices are to send: soon while they are few, and with fuller batches as they become many.

A request costs its signature and its way through the server, whether it brings one window or hundreds. So the pace is
set by requests: a fleet twice as large is asked to send half as often. An event does not wait for it: agents send at
once when they have one.
"""

SHORTEST_S, LONGEST_S = 1.0, 300.0
"""At the longest a batch holds thirty windows of ten seconds: what takes such batches takes them at the speed of COPY,
more or less (`make bench ARGS=telemetry`, 200x30), and evidence is five minutes old."""
REQUESTS_PER_S = 400.0
"""What one process is to be asked; it can take several times that (200x5)."""
LEAST_LOOK_S = 5.0
FASTEST = 2.0
"""By how much a pace changes at once at most: a burst is not a fleet."""


def paced(pace_s: float, requests_per_s: float) -> float:
    """Return the pace at which those who sent so often at `pace_s` would come at `REQUESTS_PER_S`."""
    change = min(max(requests_per_s / REQUESTS_PER_S, 1 / FASTEST), FASTEST)
    return min(max(pace_s * change, SHORTEST_S), LONGEST_S)


def look_s(pace_s: float) -> float:
    """Return for how long to count before the pace is set anew: until everyone has heard and kept the last one."""
    return max(LEAST_LOOK_S, 2 * pace_s)
