"""What a wrapper makes of what its command prints: any line at all, and never too much of it."""

import pytest

from flows.runners.watch import TAIL_CHARS, Watch, progress_of, storable


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ('{"progress": 0.5, "note": "half"}', (0.5, "half")),
        ('{"progress": 7}', (1.0, "")),
        ('{"progress": -Infinity}', (0.0, "")),
        ('{"progress": 1, "note": "a\\u0000b\\ud800c"}', (1.0, "a\ufffdb?c")),
        ('{"progress": 1, "note": "' + "x" * 300 + '"}', (1.0, "x" * 200)),
        ('{"progress": NaN}', None),
        ('{"progress": 1' + "0" * 400 + "}", None),
        ('{"progress": "much"}', None),
        ('{"progress": [1]}', None),
        ("[1]", None),
        ('"progress"', None),
        ("[" * 100_000, None),
        ("12", None),
        ("", None),
    ],
)
def test_progress_is_read_from_any_line(line: str, read: tuple[float, str] | None) -> None:
    assert progress_of(line) == read


def test_the_tail_and_the_echo_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(echo_left=1000)
    for number in range(5000):
        watch.hear(f"line {number}")
    assert len(watch.tail) == TAIL_CHARS
    assert watch.tail.endswith("line 4999")
    said = capsys.readouterr().out
    assert 1000 <= len(said) < 1100
    assert said.startswith("line 0\n")
    assert said.endswith("\n(more is not kept)\n")


def test_without_an_echo_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    Watch().hear("line")
    assert capsys.readouterr().out == ""


def test_what_postgresql_cannot_hold_is_replaced() -> None:
    assert storable("a\0b\udfffc") == "a\ufffdb?c"
