"""The whole demo with three seeds: real processes, real training, real simulation; the field is a simulation."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SEEDS = (1, 2, 3)
MOST_S = 300.0


def run_demo(seed: int, folder: Path) -> tuple[int, float, dict[str, Any]]:
    """Run the demo as its user would; return exit status, seconds and the report."""
    report = folder / f"report-{seed}.json"
    command = [
        sys.executable,
        "-m",
        "control_plane.cli.app",
        "demo",
        "--exit",
        "--seed",
        str(seed),
        "--report",
        str(report),
        "--home",
        str(folder / f"home-{seed}"),
    ]
    begun = time.monotonic()
    done = subprocess.run(command, stdout=sys.stderr, check=False, timeout=1200)
    seconds = time.monotonic() - begun
    return done.returncode, seconds, json.loads(report.read_text()) if report.exists() else {}


def prove() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="fl-loop-") as name:
        for seed in SEEDS:
            status, seconds, report = run_demo(seed, Path(name))
            yield from lines(seed, status, seconds, report)


def lines(seed: int, status: int, seconds: float, report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    def line(what: str, figure: object, unit: str, bound: str, *, ok: bool) -> dict[str, Any]:
        return {
            "proof": f"demo, seed {seed}: {what}",
            "figure": figure,
            "unit": unit,
            "bound": bound,
            "ok": ok,
            "seconds": round(seconds, 1),
        }

    field, checks = report.get("field", {}), report.get("checks", {})
    yield line("exit status", status, "", "0", ok=status == 0)
    yield line("seconds", round(seconds), "s", f"<= {MOST_S:g} s", ok=seconds <= MOST_S)
    if not report:
        return
    unit = field["per"]
    for name in ("v1", "v2"):
        rate = field[name]
        yield line(
            f"field incidents of {name}",
            f"{rate['rate']} ({rate['low']} to {rate['high']})",
            f"per {unit}",
            "intervals apart",
            ok=checks["intervals_apart"],
        )
    yield line(
        "incidents v1 to v2", f"-{field['reduction']:.0%}", "", ">= 40 % fewer", ok=checks["incidents_down_40_percent"]
    )
    for check, what in (
        ("bad_candidate_failed", "bad candidate: gate says fail"),
        ("subtle_passed_nominal", "subtle candidate passes the nominal suite"),
        ("subtle_candidate_halted", "subtle candidate: halted by the field"),
        ("devices_back_on_v2", "its devices are back on v2"),
        ("lineage_complete", "lineage complete in both directions"),
        ("every_decision_replays", "every decision replays from stored evidence"),
    ):
        yield line(what, "yes" if checks[check] else "no", "", "yes", ok=checks[check])
