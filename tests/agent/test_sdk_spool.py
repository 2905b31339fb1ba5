import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.sdk.merging import merge_windows
from agents.sdk.spool import EVENT, WINDOW, Limits, Spool, SpoolError

DIGEST = "a" * 64
WRITER = """
import sys
from pathlib import Path
from agents.sdk.spool import Spool
spool = Spool(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    print(spool.put("event", {"number": number}), flush=True)
"""


def window(at: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "content_digest": DIGEST,
        "started_at": f"2026-01-01T00:{at:02}:00Z",
        "ended_at": f"2026-01-01T00:{at:02}:30Z",
        "distance_m": 2.0,
        "duration_s": 30.0,
        "decisions": 300,
        "energy_j": 5.0,
        "counts": {"collision": 1},
        "latency_p50_ms": 1.0,
        "latency_p99_ms": 2.0,
        **changes,
    }


def bodies(spool: Spool, kind: str) -> list[dict[str, Any]]:
    return [item.body for item in spool.take(10_000, 1 << 30) if item.kind == kind]


def test_what_was_put_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), "100000"], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(50)]
        os.kill(writer.pid, signal.SIGKILL)
        said += [int(line) for line in writer.stdout.read().split()]
    kept = {item.seq for item in Spool(path).take(100_000, 1 << 30)}
    assert set(said) <= kept


def test_every_commit_is_synced(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    assert spool._db.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert spool._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_several_processes_share_one_stream(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), "60"], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [[int(line) for line in writer.communicate()[0].split()] for writer in writers]
    assert all(each == sorted(each) for each in said)
    assert sorted(seq for each in said for seq in each) == list(range(1, 181))


def test_seq_is_never_used_twice_and_the_stream_keeps_its_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    last = [spool.put(EVENT, {"n": n}) for n in range(3)][-1]
    spool.take(10)
    spool.ack(last)
    spool.close()
    again = Spool(tmp_path / "spool.db")
    assert again.put(EVENT, {}) == last + 1
    assert again.stream_id == spool.stream_id


def test_an_ack_forgets_only_what_was_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    for number in range(5):
        spool.put(EVENT, {"n": number})
    assert [item.seq for item in spool.take(2)] == [1, 2]
    spool.ack(1_000_000)
    assert [item.seq for item in spool.take(10)] == [3, 4, 5]


def test_full_spool_merges_windows_and_keeps_every_sum_and_event(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", Limits(rows=20))
    for number in range(200):
        spool.put(WINDOW, window(number % 60))
        if number % 40 == 0:
            spool.put(EVENT, {"n": number})
    windows = bodies(spool, WINDOW)
    assert sum(each["distance_m"] for each in windows) == 400
    assert sum(each["counts"]["collision"] for each in windows) == 200
    assert len(bodies(spool, EVENT)) == 5
    assert spool.counts()["rows"] <= 20
    assert spool.counts()["merged_windows"] > 0
    assert spool.counts()["dropped_windows"] == spool.counts()["dropped_events"] == 0


def test_what_is_on_its_way_is_never_merged(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", Limits(rows=20))
    for number in range(10):
        spool.put(WINDOW, window(number))
    sent = spool.take(5)
    for number in range(40):
        spool.put(WINDOW, window(number))
    assert spool.take(5) == sent


def test_events_go_last_and_are_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", Limits(rows=100))
    for number in range(50):
        # Different models: nothing here can be merged.
        spool.put(WINDOW, window(content_digest=f"{number:064x}"))
    for number in range(180):
        spool.put(EVENT, {"n": number})
    counts = spool.counts()
    assert counts["dropped_windows"] == 50
    assert counts["dropped_events"] == 180 - len(bodies(spool, EVENT)) > 0
    assert bodies(spool, EVENT)[-1] == {"n": 179}


def test_too_large_an_item_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most"):
        Spool(tmp_path / "spool.db").put(EVENT, {"x": "y" * (65 << 10)})


def test_what_cannot_be_stored_is_an_error_not_a_silence(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    blocker = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    spool._db.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(SpoolError):
        spool.put(EVENT, {})
    blocker.execute("ROLLBACK")
    assert spool.put(EVENT, {}) == 1
    blocker.close()


numbers = st.floats(0, 1e6)
windows = st.builds(
    window,
    at=st.integers(0, 59),
    distance_m=numbers,
    decisions=st.integers(0, 10**6),
    energy_j=st.none() | numbers,
    counts=st.dictionaries(st.sampled_from(["collision", "stuck"]), st.integers(0, 100)),
    latency_p50_ms=numbers,
    latency_p99_ms=numbers,
)


@given(windows, windows)
@settings(max_examples=100, deadline=None)
def test_merged_windows_say_what_both_said(first: dict[str, Any], second: dict[str, Any]) -> None:
    merged = merge_windows(first, second)
    assert merged is not None
    assert merged["distance_m"] == first["distance_m"] + second["distance_m"]
    assert sum(merged["counts"].values()) == sum(first["counts"].values()) + sum(second["counts"].values())
    assert (merged["energy_j"] is None) == (first["energy_j"] is None or second["energy_j"] is None)
    assert merged["latency_p99_ms"] >= max(first["latency_p99_ms"], second["latency_p99_ms"])
    assert merged["started_at"] == min(first["started_at"], second["started_at"])
    low, high = sorted((first["latency_p50_ms"], second["latency_p50_ms"]))
    assert low - 1e-6 <= merged["latency_p50_ms"] <= high + 1e-6


def test_windows_that_one_cannot_hold_stay_two() -> None:
    assert merge_windows(window(), window(content_digest="b" * 64)) is None
    assert merge_windows(window(decisions=10**9), window()) is None
    many = {f"k{number}": 1 for number in range(30)}
    assert merge_windows(window(counts=many), window(counts={"a": 1, "b": 1, "c": 1})) is None
