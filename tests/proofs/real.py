"""The loop on recorded human traffic, through the control plane, over three seeds.

FLEETLOOP_TRAFFIC_DATA names the folder with the recordings; they are not part of the project. Devices drive as recorded
vehicles of some recording groups; vehicles of the others are held out for evaluation and never trained on.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from control_plane.kit.statistics import paired_difference

SEEDS = (1, 2, 3)
NOT_SHOWN = (
    "Not shown: road safety rates, other cities, traffic that reacts, or a benefit to a policy that is already robust. "
    "Recordings are short and from 2005 and 2006, vehicles vanish at crop edges, being hit from behind is mostly an "
    "artefact of replay and is not counted."
)


def run_loop(folder: Path, data: Path, seed: int, *more: str) -> dict[str, Any]:
    """Run `fleetloop loop` as a user would and return its report."""
    report = folder / f"report-{seed}{''.join(more)}.json"
    command = [
        sys.executable,
        "-m",
        "control_plane.cli.app",
        "loop",
        "--workload",
        "recorded_traffic",
        "--data",
        str(data),
        "--seed",
        str(seed),
        "--report",
        str(report),
        "--home",
        str(folder / "home"),
        *more,
    ]
    subprocess.run(command, stdout=sys.stderr, check=False, timeout=1500)
    found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    return found


def prove() -> Iterator[dict[str, Any]]:
    given = os.environ.get("FLEETLOOP_TRAFFIC_DATA")
    if not given or not Path(given).is_dir():
        print("real: skipped, FLEETLOOP_TRAFFIC_DATA names no folder of recordings", file=sys.stderr)
        return
    print(NOT_SHOWN, file=sys.stderr)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fl-real-") as name:
        reports = [run_loop(Path(name), Path(given), seed) for seed in SEEDS]
        robust = run_loop(Path(name), Path(given), SEEDS[0], "--first-recipe", "robust")
    for line in [*improvement(reports), *stopped(reports), *already_robust(robust)]:
        yield line | {"seconds": round(time.monotonic() - begun, 1)}


def improvement(reports: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Pool the seeds: a vehicle is one cluster, however often and in however many seeds it was driven."""
    pairs = [
        (cluster, before, after)
        for report in reports
        for _, cluster, before, after in report.get("pairs", {}).get("field", [])
    ]
    clusters = [cluster for cluster, _, _ in pairs]
    found = paired_difference([after - before for _, before, after in pairs], clusters, 0.975)
    shares = [sum(values) / max(len(pairs), 1) for values in zip(*[(b, a) for _, b, a in pairs], strict=True)] or [0, 0]
    yield line(
        "unsafe cases of held-out field vehicles, v1 to v2",
        f"{shares[0]:.1%} to {shares[1]:.1%}: {100 * (found.estimate or 0):+.1f} points "
        f"({100 * found.low:+.1f} to {100 * found.high:+.1f})",
        f"95 %, {len(set(clusters))} vehicles, {len(reports)} seeds",
        "below 0",
        ok=bool(pairs) and found.high < 0,
    )
    for seed, report in zip(SEEDS, reports, strict=True):
        yield line(
            f"seed {seed}: gate on v2",
            report.get("v2", {}).get("verdict", "none"),
            "",
            "pass",
            ok=report.get("v2", {}).get("verdict") == "pass",
        )


def stopped(reports: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for seed, report in zip(SEEDS, reports, strict=True):
        verdict = report.get("bad", {}).get("verdict", "none")
        yield line(
            f"seed {seed}: gate on the candidate that imitates field logs", verdict, "", "fail", ok=verdict == "fail"
        )


def already_robust(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    said = report.get("v2", {})
    parts = [part["because"] for part in said.get("parts", []) if part["rule"] == "improves"]
    shown = any("no improvement shown" in because for because in parts)
    yield line(
        "gate on v2 of an already robust v1",
        said.get("verdict", "none"),
        "no improvement shown" if shown else "; ".join(parts)[:200],
        "not pass, no improvement shown",
        ok=shown and said.get("verdict") not in (None, "pass"),
    )


def line(what: str, figure: object, unit: str, bound: str, *, ok: bool) -> dict[str, Any]:
    return {"proof": f"recorded traffic: {what}", "figure": figure, "unit": unit, "bound": bound, "ok": ok}
