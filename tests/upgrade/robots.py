"""The application on every robot below ROOT: it runs what is active, drives, and says so; it ends with its stdin."""

import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agents.sdk import NotEnrolledError, Robot, Window

PERIOD_S = 0.5


def drive(folder: Path, robots: dict[Path, Robot]) -> None:
    if folder not in robots:
        try:
            robots[folder] = Robot(folder)
        except NotEnrolledError:
            return
    robot, model = robots[folder], robots[folder].active_model()
    robot.set_motion(safe_to_switch=True)
    if model is None:
        return
    robot.report_health(model.content_digest, ok=True)
    now = datetime.now(UTC)
    robot.report_window(
        Window(
            content_digest=model.content_digest,
            started_at=now - timedelta(seconds=PERIOD_S),
            ended_at=now,
            distance_m=5.0,
            duration_s=PERIOD_S,
            decisions=5,
            energy_j=None,
            counts={},
            latency_p50_ms=4.0,
            latency_p99_ms=9.0,
        )
    )


def main() -> None:
    robots: dict[Path, Robot] = {}
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.wait(PERIOD_S):
        for folder in sorted(Path(sys.argv[1]).iterdir()):
            drive(folder, robots)


if __name__ == "__main__":
    main()
