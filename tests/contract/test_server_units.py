"""The control plane's systemd units: systemd takes them, finds them confined, and what they start is there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "infra" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("fleetloop-*.service") if "agent" not in path.name)
ANALYZE = shutil.which("systemd-analyze")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_starts_what_there_is(name: str) -> None:
    (command,) = re.findall(r"^ExecStart=\S+ -m (.+)$", (UNITS / name).read_text(), re.MULTILINE)
    module, *arguments = command.split()
    known = run(sys.executable, "-m", module, "--help").stdout
    for flag in (each for each in arguments if each.startswith("--")):
        assert flag in known, f"{name}: {module} knows no {flag}"


def test_all_services_belong_to_the_target() -> None:
    assert SERVICES == ["fleetloop-devices.service", "fleetloop-people.service", "fleetloop-worker.service"]
    wants = re.findall(r"^Wants=(.+)$", (UNITS / "fleetloop.target").read_text(), re.MULTILINE)
    assert sorted(wants[0].split()) == SERVICES


def test_the_proxy_and_the_unit_name_the_same_socket() -> None:
    (socket,) = re.findall(r"--proxied-socket (\S+)", (UNITS / "fleetloop-devices.service").read_text())
    assert f"server unix:{socket};" in (ROOT / "infra" / "nginx" / "devices.conf").read_text()


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze on this machine")
@pytest.mark.parametrize("name", SERVICES)
def test_systemd_accepts_a_unit_and_finds_it_confined(tmp_path: Path, name: str) -> None:
    assert ANALYZE is not None
    for unit in (*SERVICES, "fleetloop.target"):
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", (UNITS / unit).read_text(), flags=re.MULTILINE)
        (tmp_path / unit).write_text(text)
    verified = run(ANALYZE, "verify", str(tmp_path / name))
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = run(ANALYZE, "security", "--offline=true", str(tmp_path / name))
    (level,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert float(level) <= 2.5, judged.stdout
