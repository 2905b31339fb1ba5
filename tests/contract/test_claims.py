"""What the README says of the proofs: none is left out, and what does not hold is said."""

import json
from pathlib import Path

import pytest

from docs import claims
from tests.proofs.__main__ import PROOFS

LINE = {"of": "crash", "proof": "crash: a run ends", "figure": "done", "unit": "", "bound": "a|b", "ok": True}


def test_every_proof_is_told_of() -> None:
    assert list(claims.WHAT) == list(PROOFS)


def test_a_line_of_a_proof_that_nobody_tells_of_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "claims.jsonl"
    kept.write_text(json.dumps(LINE) + "\n" + json.dumps(LINE | {"of": "other"}) + "\n")
    with pytest.raises(ValueError, match="other"):
        claims.read(kept)


def test_what_does_not_hold_is_said_and_counted() -> None:
    lines = [LINE, LINE | {"proof": "crash: nothing is lost", "ok": False}]
    readme = claims.put_in(f"before\n{claims.MARKS[0]}\nthe last table\n{claims.MARKS[1]}\nafter\n", lines)
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "the last table" not in readme
    assert "| 1 of 2 |" in readme
    assert "Does not hold: crash: nothing is lost." in readme
    assert "| crash: nothing is lost | done | a/b | NO |" in claims.page(lines)
