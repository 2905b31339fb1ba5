"""The agent as it comes onto a device: its wheel in an empty Python 3.10, its unit, two users and one directory."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.link.identity import AGENT_VERSION

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "infra" / "packaging" / "agent"
UNITS = ROOT / "infra" / "systemd"
# What only a device with the extra [onnx] imports; the agent runs it in processes of its own.
NEEDS_ONNX = {"agents.inference"}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(folder), str(PACKAGE))
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip(f"the build back end cannot be had here: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


def pip(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(python, "-m", "pip", "--quiet", *arguments)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    # Not from the checkout: what is imported must be what was installed.
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd="/", env=environment)


def python310() -> str | None:
    kept = Path.home() / ".pyenv" / "versions"
    for found in (shutil.which("python3.10"), *sorted(map(str, kept.glob("3.10.*/bin/python3.10")), reverse=True)):
        if found and run(found, "-c", "import sys, venv; print(sys.version_info[:2])").stdout.strip() == "(3, 10)":
            return found
    return None


@pytest.fixture(scope="session")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty Python 3.10 with nothing but the wheel and what it asks for."""
    python = python310()
    if python is None:
        pytest.skip("there is no Python 3.10 on this machine")
    folder = tmp_path_factory.mktemp("device") / "venv"
    assert run(python, "-m", "venv", str(folder)).returncode == 0
    done = pip(str(folder / "bin" / "python"), "install", "--prefer-binary", str(wheel))
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_the_wheel_holds_the_agent_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"agents", f"fleetloop_agent-{AGENT_VERSION}.dist-info"}
    shipped = {name for name in names if name.startswith("agents/")}
    assert shipped == {str(path.relative_to(ROOT)) for path in (ROOT / "agents").rglob("*.py")}
    needed = {
        re.split(r"[ =><\[;]", line)[1] for line in metadata.splitlines() if re.match(r"Requires-Dist: [^;]*$", line)
    }
    assert needed == {"cryptography", "httpx", "pydantic", "securesystemslib", "tuf", "urllib3"}


def test_versions_are_those_of_the_control_plane() -> None:
    ours = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for extra in ours["optional-dependencies"].values() for each in extra]
    assert set(ours["dependencies"]) <= set(whole["dependencies"])
    assert {re.split(r"[=><]", each)[0] for each in extras} <= {
        re.split(r"[=><\[]", each)[0]
        for each in (*whole["dependencies"], *whole["optional-dependencies"]["workload"])
    }  # fmt: skip


def test_it_installs_imports_and_runs_in_an_empty_python_3_10(device: Path, tmp_path: Path) -> None:
    agent = str(device / "fleetloop-agent")
    shown = run(agent, "--help")
    assert (shown.returncode, "fleetloop-agent slots" in shown.stdout) == (0, True), shown.stderr
    assert run(agent, "--version").stdout.strip() == AGENT_VERSION
    doctor = run(agent, "doctor", "--state-dir", str(tmp_path))
    assert json.loads(doctor.stdout)["enrolled"] is False, doctor.stderr
    away = run(agent, "enrol", "--server", "http://127.0.0.1:9", "--token", "t" * 20, "--serial", "1",
               "--device-class", "c", "--site", "s", "--state-dir", str(tmp_path))  # fmt: skip
    assert (away.returncode, "127.0.0.1" in away.stderr) == (4, True), away.stderr


def test_every_module_but_those_that_run_models_imports_without_extras(device: Path) -> None:
    program = (
        "import importlib, json, pkgutil, agents\n"
        "failed = {}\n"
        "for each in pkgutil.walk_packages(agents.__path__, 'agents.'):\n"
        "    if each.name.endswith('__main__'): continue\n"
        "    try: importlib.import_module(each.name)\n"
        "    except ImportError as error: failed[each.name] = error.name\n"
        "print(json.dumps(failed))\n"
    )
    done = run(str(device / "python"), "-W", "error", "-c", program)
    assert done.returncode == 0, done.stderr
    failed: dict[str, str] = json.loads(done.stdout)
    assert {name.rsplit(".", 1)[0] for name in failed} <= NEEDS_ONNX
    assert set(failed.values()) <= {"numpy", "onnxruntime", "safetensors"}


def unit() -> Iterator[tuple[str, str]]:
    for line in (UNITS / "fleetloop-agent.service").read_text().splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            yield name, value


def test_the_unit_watches_restarts_and_confines_the_agent() -> None:
    said = dict(unit())
    expected = {
        "Type": "notify", "NotifyAccess": "main", "Restart": "always", "NoNewPrivileges": "yes",
        "ProtectSystem": "strict", "ProtectHome": "yes", "StateDirectory": "fleetloop", "CapabilityBoundingSet": "",
        "LockPersonality": "yes", "User": "fleetloop",
    }  # fmt: skip
    assert {name: said[name] for name in expected} == expected
    assert int(said["WatchdogSec"]) > 0
    assert "MemoryMax" in said
    # The application's unit does not depend on the agent's in any way.
    application = (UNITS / "robot-application.service").read_text()
    assert not re.search(
        r"^(Requires|BindsTo|PartOf|Wants|After|Requisite)=.*fleetloop-agent", application, re.MULTILINE
    )


def test_systemd_accepts_the_units_and_finds_them_confined(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze on this machine")
    for name in ("fleetloop-agent.service", "robot-application.service"):
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", (UNITS / name).read_text(), flags=re.MULTILINE)
        (tmp_path / name).write_text(text)
        verified = run(analyze, "verify", str(tmp_path / name))
        assert (verified.returncode, verified.stderr) == (0, ""), name
    over = tmp_path / "fleetloop-agent.service.d"
    over.mkdir()
    shutil.copy(UNITS / "fleetloop-agent-gpu.conf", over / "gpu.conf")
    assert run(analyze, "verify", str(tmp_path / "fleetloop-agent.service")).stderr == ""
    shutil.rmtree(over)
    judged = run(analyze, "security", "--offline=true", str(tmp_path / "fleetloop-agent.service"))
    (level,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert float(level) <= 2.5, judged.stdout


WRITER = """
import os, sys
from pathlib import Path
from agents.sdk.signals import Signals
from agents.sdk.spool import Spool
os.umask(0o007)
os.setgroups([int(sys.argv[2])])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[3]))
state = Path(sys.argv[1])
Spool(state / "spool.db").put("event", {"from": int(sys.argv[3])})
signals = Signals(state / "signals")
signals.put_motion(safe_to_switch=True)
signals.put_health("a" * 64, ok=True, reason="")
assert signals.motion() and signals.health()
signals.forget_health()
print(len(Spool(state / "spool.db").take(10)))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="two users need root")
def test_agent_and_application_may_be_two_users_with_one_group() -> None:
    group, users = 60_123, (60_001, 60_002, 60_001)
    with tempfile.TemporaryDirectory() as state:
        os.chown(state, users[0], group)
        Path(state).chmod(stat.S_ISGID | 0o770)
        for number, user in enumerate(users):
            done = subprocess.run(
                [sys.executable, "-c", WRITER, state, str(group), str(user)],
                capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
            )  # fmt: skip
            assert (done.returncode, done.stdout.strip()) == (0, str(number + 1)), done.stderr
