"""Runs proofs by name (all of them without one) and keeps their lines."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.proofs import crash, errors, loop, real

Line = dict[str, Any]
CLAIMS = Path(__file__).parents[2] / "docs" / "reference" / "claims.jsonl"


def modules(prefix: str) -> Iterator[Line]:
    """Run `run` of every module PREFIX_*.py here; its lines are {"proof", "ok", "figures"}."""
    for path in sorted(Path(__file__).parent.glob(f"{prefix}_*.py")):
        begun = time.monotonic()
        for line in import_module(f"{__package__}.{path.stem}").run():
            said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in line["figures"].items())
            seconds = round(time.monotonic() - begun, 1)
            yield {"figure": said, "unit": "", "bound": line.get("bound", "as named"), "seconds": seconds} | line


PROOFS: dict[str, Callable[[], Iterator[Line]]] = {
    "errors": lambda: (proof() for proof in errors.PROOFS),
    "loop": loop.prove,
    "crash": crash.prove,
    "real": real.prove,
    "device": lambda: modules("device"),
    "evidence": lambda: modules("evidence"),
    "console": lambda: modules("console"),
    "beyond": lambda: modules("beyond"),
}


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(PROOFS))
    if unknown:
        print(f"no proof is called {', '.join(unknown)}; there are {', '.join(PROOFS)}", file=sys.stderr)
        return 2
    bad = 0
    for name in names or PROOFS:
        lines = []
        for line in PROOFS[name]():
            print(json.dumps(line), flush=True)
            lines.append({"of": name} | line)
            bad += not line["ok"]
        keep(name, lines)
    return 1 if bad else 0


def keep(name: str, lines: list[Line]) -> None:
    """Replace one proof's lines among the recorded claims; a proof that could not run leaves the old ones."""
    if not lines:
        return
    held = [json.loads(text) for text in CLAIMS.read_text().splitlines()] if CLAIMS.exists() else []
    kept = [line for line in held if line["of"] != name] + lines
    order = list(PROOFS)
    kept.sort(key=lambda line: order.index(line["of"]))
    CLAIMS.write_text("".join(json.dumps(line) + "\n" for line in kept))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
