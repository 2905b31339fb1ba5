"""The proofs' lines (docs/reference/claims.jsonl, which `make prove` writes) as a page, and in short for the README."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

Line = dict[str, Any]
MARKS: Final = ("<!-- claims -->", "<!-- /claims -->")
WHAT: Final = {
    "errors": "the gate's and the rollout's tests are wrong no more often than they say",
    "loop": "the demo by three seeds: v2 drives better, the gate stops a bad candidate, the field a subtle one",
    "crash": "eight kinds of process killed in mid-loop: the run ends, nothing is lost or done twice",
    "real": "recorded human traffic: v2 drives better on vehicles that nobody trained on",
    "device": "attacks, stolen keys, power cut at every write of an update: no device runs what was not signed for",
    "evidence": "harmful candidates stopped and good ones let pass, by gate and canaries, at the stated error rates",
    "console": "every page with 100,000 devices, people beside 2,000 check-ins a second, uploads that go on",
    "beyond": "production layout, Ray and Slurm: each process killed, restarts under load, a restore from nothing",
}
"""What each proof (`make prove ARGS=...`) is about, in the order in which they are run."""


def read(path: Path) -> list[Line]:
    """Return the lines of a file.

    Raises:
        ValueError: one is of a proof that WHAT does not tell of, and would be left out.
    """
    lines = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    untold = sorted({line["of"] for line in lines} - set(WHAT))
    if untold:
        raise ValueError(f"docs/claims.py does not say what these proofs are about: {', '.join(untold)}")
    return lines


def page(lines: Sequence[Line]) -> str:
    """Return every line, proof by proof."""
    text = ["# What is claimed, and the proof", "", "From the last run of `make prove`. Generated; do not edit.", ""]
    for name, what in WHAT.items():
        mine = _of(lines, name)
        if mine:
            text += [f"## make prove ARGS={name}", "", f"{what[0].upper()}{what[1:]}.", ""]
            text += ["| proof | figure | bound | holds |", "|---|---|---|---|", *map(_row, mine), ""]
    return "\n".join(text)


def short(lines: Sequence[Line]) -> str:
    """Return a row for each proof, and whatever does not hold."""
    text = ["| `make prove ARGS=...` | what | lines that hold |", "|---|---|---|"]
    for name, what in WHAT.items():
        mine = _of(lines, name)
        if mine:
            held = sum(bool(line["ok"]) for line in mine)
            text.append(f"| `{name}` | {what} | {held} of {len(mine)} |")
    text += [""] + [f"Does not hold: {line['proof']}." for line in lines if not line["ok"]]
    return "\n".join(text).rstrip()


def put_in(readme: str, lines: Sequence[Line]) -> str:
    """Return a README with its table made anew; one without the marks stays."""
    before, _, rest = readme.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n{short(lines)}\n{MARKS[1]}{after}" if rest else readme


def _of(lines: Iterable[Line], name: str) -> list[Line]:
    return [line for line in lines if line["of"] == name]


def _row(line: Line) -> str:
    cells = line["proof"], f"{line['figure']} {line['unit']}".strip(), line["bound"], "yes" if line["ok"] else "NO"
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"
