"""What the doctor makes of what it sees, without a server."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.cli import doctor
from control_plane.cli.doctor import State
from control_plane.registry.schemas import AlarmItem, RoleItem, TrustItem
from tests.support.cli import fleetloop

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(("skew_s", "state"), [(0, "ok"), (4, "ok"), (20, "warn"), (-20, "warn"), (90, "broken")])
def test_clocks(skew_s: float, state: str) -> None:
    date = format_datetime(NOW + timedelta(seconds=skew_s), usegmt=True)
    assert doctor.check_clock(date, NOW.timestamp()).state == state
    assert doctor.check_clock(None, NOW.timestamp()).state == "warn"


def role(name: str, left: timedelta) -> RoleItem:
    return RoleItem(
        role=name, keyids=["k"], threshold=1, keys_known_here=1, version=1, published_at=NOW, expires_at=NOW + left
    )


def trust(*roles: RoleItem, ready: bool = True, alarms: list[AlarmItem] | None = None) -> TrustItem:
    return TrustItem(ready=ready, revision=7, roles=list(roles), alarms=alarms or [])


@pytest.mark.parametrize(
    ("found", "state", "word"),
    [
        (trust(role("root", timedelta(90)), role("timestamp", timedelta(1))), "ok", "revision 7"),
        (trust(ready=False), "broken", "no root"),
        (trust(role("timestamp", timedelta(0))), "broken", "expired: timestamp"),
        (trust(role("root", timedelta(3))), "warn", "root expires soon"),
        (trust(role("snapshot", timedelta(minutes=5))), "warn", "snapshot expires soon"),
        (trust(alarms=[AlarmItem(subject="x", because="a key is lost", since=NOW)]), "warn", "a key is lost"),
    ],
)
def test_trust(found: TrustItem, state: str, word: str) -> None:
    check = doctor.judge_trust(found, NOW)
    assert (check.state, word in check.found) == (state, True)
    assert check.advice or check.state is State.OK


@pytest.mark.parametrize(("free_gib", "state"), [(100, "ok"), (3, "warn"), (0.5, "broken")])
def test_disk(free_gib: float, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = int(free_gib * 2**30)

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage)
    assert doctor.check_disk(tmp_path / "not there yet").state == state


def test_prefect_is_only_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETLOOP_HOME", str(tmp_path))
    assert doctor.check_prefect().state == "ok"
    (tmp_path / "stack.json").write_text('{"prefect": "http://127.0.0.1:9"}')
    assert doctor.check_prefect().state == "warn"
    assert doctor.check_prefect(lambda _: httpx.Response(200)).state == "ok"


def test_versions_and_readiness() -> None:
    assert doctor.check_version(httpx.Response(200, json={"info": {"version": "1"}})).state == "ok"
    answers: list[Any] = [httpx.Response(200, text="<html>"), httpx.Response(200, json=[]), "no answer"]
    assert [doctor.check_version(each).state for each in answers] == ["warn"] * 3
    assert doctor.check_ready(httpx.Response(503)).state == "broken"


def test_a_server_that_is_away_is_broken_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETLOOP_HOME", str(tmp_path))
    (tmp_path / "token").write_text("fl_x")
    ended = fleetloop("doctor", "--url", "http://127.0.0.1:9", "--token-file", str(tmp_path / "token"))
    assert (ended.status, ended.err) == (1, "")
    assert "fleetloop up" in ended.out
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("FLEETLOOP_CONFIG_DIR", str(tmp_path / "config"))
    for name in ("FLEETLOOP_SERVER", "FLEETLOOP_TOKEN", "FLEETLOOP_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    ended = fleetloop("doctor")
    assert (ended.status, "context add" in ended.out) == (1, True)
