"""Alerts, dashboard and runbook speak of metrics that there are, and the rules fire when they should."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from control_plane.kit.metrics import described
from control_plane.worker import MEASURES

ROOT = Path(__file__).parents[2]
HERE = ROOT / "infra" / "observability"
NAME = re.compile(r"\b(?:fleetloop|process)_[a-z_]+\b")
PROMTOOL = shutil.which("promtool")
ALERTS = yaml.safe_load((HERE / "alerts.yaml").read_text())["groups"][0]["rules"]


def known() -> set[str]:
    assert MEASURES, "the families of the installation are known once their slices are imported"
    names = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
    for name, kind, _, _ in described():
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


def test_every_metric_that_is_asked_for_exists() -> None:
    panels = json.loads((HERE / "dashboard.json").read_text())["panels"]
    asked = [rule["expr"] for rule in ALERTS] + [target["expr"] for panel in panels for target in panel["targets"]]
    for expression in asked:
        found = set(NAME.findall(expression))
        assert found - known() == set(), expression
        assert found or "up{" in expression


def test_every_alert_has_its_runbook_and_its_test() -> None:
    sections = {line[3:] for line in (ROOT / "docs/runbooks/alerts.md").read_text().splitlines() if line[:3] == "## "}
    tested = (HERE / "alerts_test.yaml").read_text()
    assert sections == {rule["alert"] for rule in ALERTS}
    for rule in ALERTS:
        assert rule["annotations"]["runbook"] == f"docs/runbooks/alerts.md#{rule['alert'].lower()}"
        assert f"alertname: {rule['alert']}\n        exp_alerts" in tested, rule["alert"]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here: apt-get install prometheus")
@pytest.mark.parametrize("arguments", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")])
def test_promtool_finds_the_rules_right(arguments: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], cwd=HERE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here: apt-get install prometheus")
def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    for name in ("prometheus.yaml", "alerts.yaml"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "prometheus-targets.json").write_text('[{"targets": ["127.0.0.1:1"], "labels": {"program": "api"}}]')
    command = [PROMTOOL, "check", "config", "prometheus.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "WARNING" in done.stdout + done.stderr) == (0, False), done.stderr
