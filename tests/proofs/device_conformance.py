"""The public suite tuf-conformance, through the client that devices use; its folder: FLEETLOOP_TUF_CONFORMANCE.

The suite pins other versions of tuf than we do, so it gets an environment of its own: that which
FLEETLOOP_TUF_CONFORMANCE_VENV names, else a temporary one. The client under test runs in ours, as a program.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET  # the suite's own report
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

Line = dict[str, Any]
_ROOT: Final = Path(__file__).parents[2]
_NAME: Final = "the public TUF conformance suite passes through the device's client"


def run() -> Iterator[Line]:
    folder = os.environ.get("FLEETLOOP_TUF_CONFORMANCE")
    missing = None if folder else "FLEETLOOP_TUF_CONFORMANCE does not name a checkout of tuf-conformance"
    if missing is None and shutil.which("faketime") is None:
        missing = "the program faketime is not installed"
    if missing is not None or folder is None:
        print(json.dumps({"proof": _NAME, "skipped": missing}), file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as work:
        counts = conformance(Path(folder), Path(work))
    good = counts["passed"] > 100 and counts["passed"] == counts["tests"]
    yield {"proof": _NAME, "ok": good, "figures": counts, "bound": "all pass, none is expected to fail"}


def conformance(folder: Path, work: Path) -> dict[str, int]:
    """Run the suite; return how many tests there are and how they ended."""
    kept = os.environ.get("FLEETLOOP_TUF_CONFORMANCE_VENV")
    python = Path(kept or work / "venv") / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", str(folder)], check=True)
    program = work / "client"  # without a file of expected failures beside it
    program.write_text(f'#!/bin/sh\nPYTHONPATH={_ROOT} exec {sys.executable} -m tests.conformance.tuf_client "$@"\n')
    program.chmod(0o755)
    report = work / "report.xml"
    subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tuf_conformance", "--entrypoint", str(program),
         f"--junitxml={report}"],
        cwd=folder, check=False, stdout=subprocess.DEVNULL, timeout=1800,
    )  # fmt: skip
    return counted(report)


def counted(report: Path) -> dict[str, int]:
    suites = list(ET.parse(report).getroot().iter("testsuite"))  # noqa: S314 - written by the pytest started above
    total = {
        kind: sum(int(suite.get(kind, 0)) for suite in suites) for kind in ("tests", "failures", "errors", "skipped")
    }
    return total | {"passed": total["tests"] - total["failures"] - total["errors"] - total["skipped"]}


if __name__ == "__main__":
    for line in run():
        print(json.dumps(line))
