"""The stranger's workload (own_workload.py) as a folder with its workload.yaml."""

from pathlib import Path
from typing import Any

import yaml

from tests.e2e.own_workload import MODEL

SCRIPT = Path(__file__).with_name("own_workload.py")


def write_workload(folder: Path, **more: Any) -> Path:
    command = {name: {"run": ["python", str(SCRIPT), name]} for name in ("train", "scenarios", "simulate", "relabel")}
    spec = {
        "schema": "fleetloop.workload/v1",
        "name": "own",
        "title": "Somebody's robot",
        "device_class": "own-robot",
        "sites": ["here"],
        "model": {"name": "own-model"} | MODEL,
        "commands": command,
        "field": {"run": ["python", "-c", "pass"]},
        "events": {"bump": {"severity": "grave", "incident": True}},
        "exposure": "distance_m",
        "suites": {"nominal": {"kind": "nominal", "scenarios": 30, "seed": 1}},
        "shard_scenarios": 10,
        "recipes": {"standard": {}},
        "gate": {
            "metric": "incident",
            "parts": [{"suite": "nominal", "rule": "non_inferior", "margin": 0.1}],
            "first": [{"suite": "nominal", "rule": "absolute_at_most", "bound": 0.2}],
        },
    }
    (folder / "workload.yaml").write_text(yaml.safe_dump(spec | more))
    return folder
