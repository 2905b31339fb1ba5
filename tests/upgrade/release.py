"""The last release: its code, taken from this repository's history."""

import io
import subprocess
import tarfile
from pathlib import Path

RELEASE = "d7e341a80d7354c2c5d14e0485e24c4366746460"
"""0.1.0 as it was before clusters, the newest that somebody may run; to be moved when a release is cut."""
ROOT = Path(__file__).parents[2]
PARTS = ("control_plane", "agents", "flows")


def unpack(folder: Path) -> str | None:
    """Write the release's packages into a folder; say why not if they cannot be had."""
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", RELEASE, *PARTS]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except FileNotFoundError:
        return "no git here: the last release's code is taken from the repository's history"
    if done.returncode != 0:
        return f"this checkout has no commit {RELEASE[:12]}, the last release: fetch the whole history"
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return None
