"""The attack cases of docs/explanation/attack-cases.md, run as they are named there.

python -m tests.proofs.device_attacks
"""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET  # pytest's own report
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from agents.link import new_http
from agents.update import TufProcess
from tests.agent.server import served
from tests.agent.test_attacks_resources import MOST_MORE_BYTES, bombs, peak_bytes
from tests.proofs.device_trust import enrolled
from tests.support.attacks import HostileServer, Lie, answers, endless

Line = dict[str, Any]
ROOT: Final = Path(__file__).parents[2]
TABLE: Final = ROOT / "docs" / "explanation" / "attack-cases.md"
_ROW: Final = re.compile(r"^\| ([A-J])([0-9]{1,3}) \| ([^|]+) \| (.+) \|$")
_NAMED: Final = re.compile(r"`(test_[a-z0-9_]+)`")
_GROUPS: Final = {
    "A": "TUF metadata", "B": "attestations and policy", "C": "download and staging", "D": "model formats",
    "E": "check-in and director", "F": "identity", "G": "server API", "H": "telemetry", "I": "training data",
    "J": "operations",
}  # fmt: skip


def cases() -> dict[str, tuple[str, ...]]:
    """Return each case of the table with the tests it names; a case that is left, or a proof of its own, names none."""
    found = (_ROW.match(line) for line in TABLE.read_text().splitlines())
    return {f"{row[1]}{row[2]}": tuple(_NAMED.findall(row[4])) for row in found if row is not None}


def homes() -> dict[str, Path]:
    """Return where each test function stands."""
    found: dict[str, Path] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in re.findall(r"^(?:async )?def (test_[a-z0-9_]+)\(", path.read_text(), re.MULTILINE):
            found.setdefault(name, path)
    return found


def run() -> Iterator[Line]:
    yield _memory()
    table, where = cases(), homes()
    for group, title in _GROUPS.items():
        names = [name for case, tests in table.items() if case.startswith(group) for name in tests]
        counts = _ended({where[name] for name in names}, set(names)) if names else Counter[str]()
        left = sum(line.startswith(f"| {group}") and "| left: " in line for line in TABLE.read_text().splitlines())
        figures = {"cases": sum(case.startswith(group) for case in table), "left, with the reason": left, **counts}
        good = counts["tests"] == counts["passed"]
        yield {
            "proof": f"attack cases {group}: {title}",
            "ok": good,
            "figures": figures,
            "bound": "every named test passes",
        }


def _memory() -> Line:
    """Measure what hostile metadata adds to the peak of the process that reads it."""
    with tempfile.TemporaryDirectory() as folder:
        more = asyncio.run(_fed(Path(folder)))
    figures = {f"MiB more by {kind}": round(grown / (1 << 20), 1) for kind, grown in more.items()}
    good = max(more.values()) <= MOST_MORE_BYTES
    return {"proof": "hostile metadata stays small in memory", "ok": good, "figures": figures, "bound": "64 MiB"}


async def _fed(folder: Path) -> dict[str, int]:
    server, more = HostileServer(), {}
    with served(server) as server.url:
        async with new_http() as http:
            device = await enrolled(server, http, folder)
            device.process = TufProcess()
            await device.restart()
            for kind, (name, lie) in _lies().items():
                await device.keeper.once()
                server.publish()
                before = peak_bytes(device)
                with server.lying({name.format(**server.tuf.versions): lie}):
                    await device.keeper.once()
                if device.keeper.last_error is None:
                    raise RuntimeError(f"{kind} was believed")
                more[kind] = peak_bytes(device) - before
            await device.close()
    return more


def _lies() -> dict[str, tuple[str, Lie | bytes]]:
    packed, encoding = bombs()["gzip"]
    return {
        "a body without end": ("tuf/timestamp.json", endless(b" " * 65536)),
        "a gzip bomb": ("tuf/timestamp.json", answers(packed, content_encoding=encoding)),
        "deep JSON": ("tuf/{snapshot}.snapshot.json", b"[" * (400 << 10)),
        "a megabyte of empty objects": ("tuf/{targets}.targets.json", b"[" + b"{}," * 349_000 + b"0]"),
    }


def _ended(paths: set[Path], names: set[str]) -> Counter[str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}",
             "-k", " or ".join(sorted(names)), *sorted(map(str, paths))],
            cwd=ROOT, check=False, stdout=subprocess.DEVNULL, timeout=1800,
        )  # fmt: skip
        done = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314 - written by the pytest started above
    good = sum(not any(child.tag in {"failure", "error", "skipped"} for child in each) for each in done)
    return Counter({"tests": len(done), "passed": good})


if __name__ == "__main__":
    for line in run():
        print(json.dumps(line))
