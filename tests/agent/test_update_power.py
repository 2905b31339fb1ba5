"""A fixed sample of the proof `device_power`: every kind of update, cut and refused at a dozen of its writes."""

import json
import subprocess
import sys


def test_a18_a20_c41_a_sample_of_power_cuts_and_full_disks() -> None:
    command = [sys.executable, "-m", "tests.proofs.device_power", "--sample"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=240, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line in lines if not line["ok"]] == []
    assert len(lines) == 6
    assert done.returncode == 0
