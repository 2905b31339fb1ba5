"""The table in docs/explanation/device.md is the table in the code. Run as a program, this writes it."""

from pathlib import Path

from agents.protocol.v1 import DeploymentPhase as P
from agents.update.machine import TABLE, Row, Seen, Slot, State, Target

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "device.md"
BEGIN, END = "<!-- table -->\n", "<!-- end -->"


def table() -> str:
    lines = ["| in phase | because | next phase | then |", "|---|---|---|---|"]
    for row in TABLE:
        phases = "any" if row.phases is None else ", ".join(sorted(phase.value for phase in row.phases))
        actions = ", ".join(each.value for each in row.actions)
        lines.append(f"| {phases} | {row.because} | {_next(row)} | {actions} |")
    return "\n".join(lines) + "\n"


def _next(row: Row) -> str:
    """Ask the row itself, from two phases: one that keeps either of them keeps any."""
    slot, target = Slot("a", "a" * 64, "b" * 64, 2), Target("a" * 64, 10, 2)
    starts = sorted(row.phases or {P.IDLE, P.COMMITTED}, key=lambda phase: phase.value)
    ends = [
        row.then(
            State(phase=start, target=target, candidate=slot, active=slot, fallback=slot),
            Seen(order=target, content_digest="b" * 64),
        ).phase
        for start in starts
    ]
    return "same" if ends == starts else ends[0].value


def renewed(text: str) -> str:
    head, rest = text.split(BEGIN)
    return head + BEGIN + table() + END + rest.split(END)[1]


def test_the_page_shows_the_table_of_the_code() -> None:
    text = PAGE.read_text()
    assert text == renewed(text), "run `python -m tests.agent.test_docs`"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
