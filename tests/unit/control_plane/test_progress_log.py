"""Logs that are followed: every line once, to the end, through an outage."""

from collections.abc import Iterator

import pytest

from control_plane.cli import progress_log
from control_plane.cli.progress_log import Told, follow
from control_plane.client import Unavailable

LOOKS: list[Told] = [(["a"], False, 0), (["a", "b"], False, 0), (["a", "b", "c"], True, 1)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_log, "LOOK_S", 0)


def test_lines_come_once_until_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter(LOOKS)
    assert follow(lambda: next(looks), on=True) == 1
    assert capsys.readouterr().out == "a\nb\nc\n"
    assert follow(lambda: LOOKS[0], on=False) == 0


def test_an_outage_does_not_end_it_and_ctrl_c_does(capsys: pytest.CaptureFixture[str]) -> None:
    def looks() -> Iterator[Told | Exception]:
        yield LOOKS[0]
        yield Unavailable(0, "unreachable", "away")
        yield LOOKS[1]
        raise KeyboardInterrupt

    each = looks()

    def look() -> Told:
        found = next(each)
        if isinstance(found, Exception):
            raise found
        return found

    assert follow(look, on=True) == 0
    said = capsys.readouterr()
    assert (said.out, "unreachable: away" in said.err) == ("a\nb\n", True)
