"""A fixed sample of the proof `device_power`, and the order of what an update makes durable."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
from tests.proofs.device_power import Scenarios, copied
from tests.support.power import Strike
from tests.support.updates import Fleet, run_agent

fleet = Fleet()
folder = Path(sys.argv[1])
scenarios = Scenarios(fleet, folder)
second = scenarios.second()
with fleet.serving():
    assert run_agent(copied(second.template, folder / "disk"), second.wish, Strike(log=folder / "trail")) == 0
"""


def test_a18_a20_c41_a_sample_of_power_cuts_and_full_disks() -> None:
    command = [sys.executable, "-m", "tests.proofs.device_power", "--sample"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=240, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line in lines if not line["ok"]] == []
    assert len(lines) == 6
    assert done.returncode == 0


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Return every write of an update from one model to the next, in order."""
    folder = tmp_path_factory.mktemp("trail")
    subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], check=True, timeout=60)
    return [(name, path) for name, path in json.loads((folder / "trail").read_text())]


def test_a_kill_is_not_a_power_cut_names_follow_bytes_to_the_disk(trail: list[tuple[str, str]]) -> None:
    """A kill loses nothing that was written, a power cut may: what is renamed must have been synced before."""
    renames = [(at, path) for at, (name, path) in enumerate(trail) if name == "os.rename"]
    blobs = [(at, path) for at, path in renames if path.startswith("blobs/sha256/")]
    assert len(blobs) >= 3
    for at, path in blobs:
        assert ("os.fsync", f"blobs/partial/{Path(path).name}") in trail[:at]
        assert ("os.fsync", str(Path(path).parent)) in trail[at : at + 2]
    (staged,) = [at for at, path in renames if path.startswith("slots/b/2.")]
    made = {path for name, path in trail[:staged] if name in {"open", "os.link"} and "/.building/" in path}
    synced = [path for name, path in trail[:staged] if name == "os.fsync"]
    assert len(made) >= 5
    assert made <= set(synced)
    assert synced[-1] == "slots/b/.building"


def test_the_switch_is_durable_before_the_journal_goes_on(trail: list[tuple[str, str]]) -> None:
    (switched,) = [at for at, (name, path) in enumerate(trail) if (name, path) == ("os.rename", "active")]
    staged = next(at for at, (name, path) in enumerate(trail) if name == "os.rename" and path.startswith("slots/b/2."))
    assert {path for name, path in trail[staged : staged + 4] if name == "os.fsync"} >= {"slots/b", "slots"}
    name, path = trail[switched + 1]
    assert (name, Path(path).name) == ("os.fsync", "disk")
