"""Jobs as they go wrong: the wrapper and the local cluster against the real API over HTTP."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from control_plane.client import Client, ClientError
from control_plane.factory import service as factory
from control_plane.factory.domain import Outcome
from control_plane.factory.schemas import (
    AttemptCreate,
    AttemptFinish,
    AttemptRenew,
    ClusterPut,
    FileRef,
    JobCreate,
    JobItem,
    JobSpec,
    PlaceAsk,
)
from control_plane.kit.db import Database
from flows.runners import wrapper
from flows.runners.cluster import JobFailedError, LocalCluster
from tests.support.live import serve

WRITE = "import pathlib; pathlib.Path('outputs/a.txt').write_text('made')"


@pytest.fixture
async def client(database_url: str, tmp_path: Path) -> AsyncIterator[Client]:
    async with serve(database_url, tmp_path / "server") as live:
        client = live.client(patience_s=5)
        cluster = ClusterPut(backend="local", usd_per_hour=3600, watts=100)
        await asyncio.to_thread(client.put_cluster, "local", cluster)
        yield client
        client.close()


def body(code: str, key: str = "job-1", **changes: Any) -> JobCreate:
    spec = {"command": [sys.executable, "-c", code], "timeout_s": 30} | changes
    return JobCreate(key=key, kind="test", spec=JobSpec(**spec))


async def attempt(client: Client, home: Path, code: str, **changes: Any) -> JobItem:
    await asyncio.to_thread(client.submit_job, body(code, **changes))
    return await asyncio.to_thread(wrapper.run_job, client, changes.get("key", "job-1"), home, "holder-1")


async def test_a_job_gets_inputs_and_parameters_and_its_outputs_are_kept(client: Client, tmp_path: Path) -> None:
    given = tmp_path / "given.txt"
    given.write_text("hello")
    ref = await asyncio.to_thread(client.upload, given)
    code = (
        "import json, pathlib as p; n = json.load(open('params.json'))['n']; f = p.Path('inputs/d/in.txt');"
        "p.Path('outputs/sub').mkdir(); p.Path('outputs/sub/out.txt').write_text(f.read_text() * n);"
        "f.write_text('spoilt'); print(json.dumps({'progress': 0.5, 'note': 'half'}))"
    )
    job = await attempt(client, tmp_path, code, params={"n": 3}, inputs={"d/in.txt": ref})
    assert (job.state, job.attempt, job.progress) == ("done", 1, 1.0)
    assert job.outputs is not None
    got = tmp_path / "got"
    await asyncio.to_thread(client.download, job.outputs["sub/out.txt"].sha256, got)
    assert got.read_text() == "hello" * 3
    cached = tmp_path / "cache" / ref.sha256[:2] / ref.sha256
    assert cached.read_text() == "hello"
    cached.write_text("rotten")
    again = await attempt(client, tmp_path, f"{code} ", params={"n": 3}, inputs={"d/in.txt": ref}, key="job-2")
    assert again.outputs == job.outputs
    assert cached.read_text() == "hello"
    assert list((tmp_path / "jobs").iterdir()) == []


async def test_a_job_that_fails_is_not_tried_again(client: Client, tmp_path: Path) -> None:
    await asyncio.to_thread(client.submit_job, body("print('why it failed'); raise SystemExit(1)"))
    cluster = LocalCluster(client, tmp_path)
    with pytest.raises(JobFailedError, match="why it failed"):
        await asyncio.to_thread(cluster.submit(await get(client)).result, 30)
    cluster.close()
    assert ((await get(client)).state, (await get(client)).attempt) == ("failed", 1)


async def get(client: Client, key: str = "job-1") -> JobItem:
    return await asyncio.to_thread(client.get_job, key)


@pytest.mark.parametrize("end", ["raise SystemExit(75)", "import os; os.kill(os.getpid(), 9)"])
async def test_a_job_that_lost_its_place_is_tried_again(client: Client, tmp_path: Path, end: str) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    code = (
        f"import pathlib; n = len(list(pathlib.Path('{marks}').iterdir())); pathlib.Path('{marks}', str(n)).touch()\n"
    )
    code += f"if n < 2:\n    {end}\n{WRITE}"
    await asyncio.to_thread(client.submit_job, body(code))
    cluster = LocalCluster(client, tmp_path)
    job = await asyncio.to_thread(cluster.submit(await get(client)).result, 60)
    cluster.close()
    assert (job.state, job.attempt) == ("done", 3)


async def test_a_job_that_is_always_lost_fails_in_the_end(client: Client, tmp_path: Path) -> None:
    await asyncio.to_thread(client.submit_job, body("raise SystemExit(75)"))
    cluster = LocalCluster(client, tmp_path)
    with pytest.raises(JobFailedError):
        await asyncio.to_thread(cluster.submit(await get(client)).result, 60)
    cluster.close()
    assert (await get(client)).attempt == 4


async def test_a_job_that_hangs_is_killed_with_its_grandchildren(client: Client, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import subprocess, sys, time, pathlib, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"pathlib.Path('{pid_file}').write_text(str(child.pid)); time.sleep(600)"
    )
    begun = time.monotonic()
    job = await attempt(client, tmp_path, code, timeout_s=2)
    assert time.monotonic() - begun < 20
    assert (job.state, job.failure is not None and "no end after 2 s" in job.failure) == ("failed", True)
    grandchild = int(pid_file.read_text())
    for _ in range(50):
        if not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE:
            return
        await asyncio.sleep(0.1)
    os.kill(grandchild, signal.SIGKILL)
    pytest.fail("a grandchild outlived its job")


async def test_a_job_that_writes_nothing_failed(client: Client, tmp_path: Path) -> None:
    job = await attempt(client, tmp_path, "pass")
    assert (job.state, "wrote nothing" in (job.failure or "")) == ("failed", True)
    linked = await attempt(client, tmp_path, "import os; os.symlink('/etc/passwd', 'outputs/x')", key="job-2")
    assert linked.state == "failed"


def finish(outcome: Outcome, **changes: Any) -> AttemptFinish:
    return AttemptFinish(**({"attempt": 1, "holder": "h", "outcome": outcome, "wall_s": 1, "cpu_s": 2} | changes))


async def test_done_is_believed_only_with_its_outputs(client: Client) -> None:
    def go() -> JobItem:
        client.submit_job(body(WRITE))
        client.start_attempt("job-1", AttemptCreate(holder="h"))
        lie = {"a.txt": FileRef(sha256="0" * 64, size_bytes=4)}
        return client.finish_attempt("job-1", finish(Outcome.DONE, outputs=lie))

    job = await asyncio.to_thread(go)
    assert (job.state, job.outputs) == ("failed", None)
    assert "not in the object store" in (job.failure or "")


async def test_a_lost_lease_is_not_taken_back(client: Client) -> None:
    def go() -> None:
        client.submit_job(body(WRITE))
        client.start_attempt("job-1", AttemptCreate(holder="h", lease_s=0.2))
        again = client.start_attempt("job-1", AttemptCreate(holder="h"))
        assert again.attempt == 1  # the answer to the first was lost; the lease is what it was
        with pytest.raises(ClientError) as busy:
            client.start_attempt("job-1", AttemptCreate(holder="other"))
        assert (busy.value.status, busy.value.code) == (409, "job_not_free")
        time.sleep(0.4)
        assert client.start_attempt("job-1", AttemptCreate(holder="other")).attempt == 2
        for call in (
            lambda: client.renew_attempt("job-1", AttemptRenew(attempt=1, holder="h")),
            lambda: client.finish_attempt("job-1", finish(Outcome.FAILED)),
        ):
            with pytest.raises(ClientError) as lost:
                call()
            assert (lost.value.status, lost.value.code) == (409, "attempt_lost")

    await asyncio.to_thread(go)


async def test_one_key_runs_once(client: Client, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    code = f"import pathlib, os, time; pathlib.Path('{marks}', str(os.getpid())).touch(); time.sleep(0.5); {WRITE}"
    for _ in range(3):
        await asyncio.to_thread(client.submit_job, body(code))
    clusters = [LocalCluster(client, tmp_path / str(number)) for number in range(2)]
    job = await get(client)
    futures = [cluster.submit(job) for cluster in clusters for _ in range(2)]
    ended = [await asyncio.to_thread(future.result, 60) for future in futures]
    for cluster in clusters:
        cluster.close()
    assert {item.state for item in ended} == {"done"}
    assert len(list(marks.iterdir())) == 1
    with pytest.raises(ClientError) as changed:
        await asyncio.to_thread(client.submit_job, body(code + "#"))
    assert (changed.value.status, changed.value.code) == (409, "conflict")
    with pytest.raises(ClientError) as nowhere:
        await asyncio.to_thread(client.submit_job, body(code, key="k").model_copy(update={"cluster": "moon"}))
    assert nowhere.value.status == 422


async def test_progress_is_seen_and_the_ledger_adds_up(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapper, "RENEW_S", 0.1)
    code = "import json, sys, time; print(json.dumps({'progress': 0.4, 'note': 'on it'}), flush=True); time.sleep(1.5)"
    running = asyncio.create_task(attempt(client, tmp_path, f"{code}; {WRITE}"))
    seen = set()
    while not running.done():
        await asyncio.sleep(0.1)
        if await asyncio.to_thread(lambda: list(client.list_jobs())):
            job = await get(client)
            seen.add((job.state, job.progress, job.note))
    assert ("running", 0.4, "on it") in seen

    def failed_and_again() -> None:
        client.submit_job(body("x", key="job-2"))
        for number in (1, 1):
            client.start_attempt("job-2", AttemptCreate(holder=f"h{number}"))
            client.finish_attempt("job-2", finish(Outcome.FAILED, holder=f"h{number}", energy_j=7.0))
            client.submit_job(body("x", key="job-2"))

    await asyncio.to_thread(failed_and_again)
    first, second = running.result(), await get(client, "job-2")
    assert (second.wall_s, second.cpu_s, second.energy_j, second.usd) == (2, 4, 14, pytest.approx(2.0))
    [line] = (await asyncio.to_thread(client.ledger, "kind")).lines
    assert (line.jobs, line.wall_s) == (2, pytest.approx(first.wall_s + second.wall_s))
    assert line.usd == pytest.approx(first.usd + second.usd)
    assert line.energy_is_estimate  # of the first job; said of the sum


@pytest.mark.parametrize(
    ("code", "changes", "why"),
    [
        ("open('outputs/.hidden', 'w').write('x')", {}, "no file of such a name is taken: '.hidden'"),
        ("import os; os.makedirs('outputs/a b'); open('outputs/a b/c', 'w').write('x')", {}, "'a b/c'"),
        ("[open(f'outputs/{n}', 'w').close() for n in range(4)]", {}, "it wrote 4 files, at most 3 are taken"),
        ("print('a\\0b'); raise SystemExit(3)", {}, "exit status 3: \na\ufffdb"),
        ("pass", {"env": {"A=B": "x"}}, "the command cannot be started"),
    ],
)
async def test_its_own_fault_is_not_taken_for_the_clusters(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, changes: dict[str, Any], why: str
) -> None:
    monkeypatch.setattr(wrapper, "MAX_OUTPUT_FILES", 3)
    job = await attempt(client, tmp_path, code, **changes)
    assert (job.state, job.attempt, why in (job.failure or "")) == ("failed", 1, True), job.failure


async def test_a_job_that_says_odd_things_keeps_its_lease(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapper, "RENEW_S", 0.2)
    monkeypatch.setattr(wrapper, "LEASE_S", 1.0)
    odd = ['{"progress": NaN}', r'{"progress": 0.5, "note": "\u0000\ud800"}', '{"progress": 1' + "0" * 400 + "}"]
    job = await attempt(
        client, tmp_path, f"import time; print(*{odd!r}, sep='\\n', flush=True); time.sleep(2.5); {WRITE}"
    )
    assert job.state == "done", job.failure
    assert job.note == "\ufffd?"


async def test_commands_are_not_told_the_token(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETLOOP_TOKEN", "a secret")
    monkeypatch.setenv("FLEETLOOP_TOKEN_FILE", "/a/secret")
    code = "import os; open('outputs/env', 'w').write(' '.join(sorted(os.environ)))"
    job = await attempt(client, tmp_path, code, env={"MINE": "1"})
    got = tmp_path / "got"
    await asyncio.to_thread(client.download, (job.outputs or {})["env"].sha256, got)
    names = got.read_text().split()
    assert {"PATH", "MINE", "OMP_NUM_THREADS"} <= set(names)
    assert not [name for name in names if "TOKEN" in name]


async def test_wrappers_that_share_a_home_do_not_spoil_each_others_work(client: Client, tmp_path: Path) -> None:
    """Two control planes may know a job of one key, and a runner that was cut off may still be at an old attempt."""
    free = tmp_path / "free"
    wait = f"import pathlib, time\nwhile not pathlib.Path('{free}').exists(): time.sleep(0.05)\n{WRITE}"
    await asyncio.to_thread(client.submit_job, body(wait))
    first = asyncio.create_task(asyncio.to_thread(wrapper.run_job, client, "job-1", tmp_path, "holder-1"))
    while (await get(client)).state != "running":  # noqa: ASYNC110 - the ledger gives no event for it
        await asyncio.sleep(0.05)
    other = JobItem.model_validate((await get(client)).model_dump() | {"holder": "holder-2"})
    folders = {job.holder: tmp_path / "jobs" / str(job.holder) for job in (await get(client), other)}
    while not (folders["holder-1"] / "outputs").exists():  # noqa: ASYNC110 - nor does the file system
        await asyncio.sleep(0.05)
    wrapper._prepare(client, other, folders["holder-2"], tmp_path / "cache")
    free.touch()
    assert (await first).state == "done"
    assert (folders["holder-2"] / "outputs").exists()


async def test_a_runner_of_an_earlier_release_asks_for_the_same_job(client: Client) -> None:
    def go() -> None:
        for first, second in (("python", "/opt/venv/bin/python3.11"), ("/home/a/python", "python")):
            key = f"job-{len(first)}"
            for command in (first, second):
                spec = JobSpec(command=[command, "-m", "x"], timeout_s=30)
                client.submit_job(JobCreate(key=key, kind="test", spec=spec))
        client.start_attempt("job-6", AttemptCreate(holder="h"))
        client.finish_attempt("job-6", finish(Outcome.FAILED))
        spec = JobSpec(command=["/new/bin/python", "-m", "x"], timeout_s=30)
        again = client.submit_job(JobCreate(key="job-6", kind="test", spec=spec))
        assert (again.asked, again.spec.command[0]) == (2, "/new/bin/python")
        spec = JobSpec(command=["/opt/pythonic/run", "-m", "x"], timeout_s=30)
        with pytest.raises(ClientError):
            client.submit_job(JobCreate(key="job-6", kind="test", spec=spec))

    await asyncio.to_thread(go)


async def test_cancelling_a_job_that_nobody_holds_ends_it(client: Client) -> None:
    """Its holder is gone, and nobody who would see it through may ever come."""

    def go() -> JobItem:
        client.submit_job(body(WRITE))
        client.start_attempt("job-1", AttemptCreate(holder="h", lease_s=0.2))
        assert client.get_job("job-1").state == "running"
        time.sleep(0.4)
        return client.cancel_job("job-1", "over")

    job = await asyncio.to_thread(go)
    assert (job.state, job.failure) == ("failed", "cancelled: over")


@pytest.mark.parametrize(
    ("outcome", "state"), [(Outcome.DONE, "done"), (Outcome.LOST, "failed"), (Outcome.FAILED, "failed")]
)
async def test_a_job_that_ends_as_it_is_cancelled_is_over(client: Client, outcome: Outcome, state: str) -> None:
    """What is done stays so, what was lost is not tried again; nobody waits for a wrapper that is gone."""

    def go() -> JobItem:
        client.submit_job(body(WRITE))
        client.start_attempt("job-1", AttemptCreate(holder="h"))
        assert client.cancel_job("job-1", "over").state == "running"
        client.finish_attempt("job-1", finish(outcome, outputs={"a": client.upload(Path(__file__))}))
        return client.cancel_job("job-1", "once more")

    job = await asyncio.to_thread(go)
    assert (job.state, job.cancel_reason) == (state, "over")
    assert (job.outputs is not None) == (state == "done")


async def test_a_cancelled_run_leaves_another_its_jobs(client: Client, database_url: str) -> None:
    def ask() -> None:
        for key, runs in (("alone", ["a"]), ("shared", ["a", "b", "b"]), ("handed", ["b", "a"]), ("other", ["b"])):
            for run in runs:
                client.submit_job(body(WRITE, key=key).model_copy(update={"run_id": run}))

    def told(*keys: str) -> list[tuple[str, str | None]]:
        return [(job.state, job.run_id) for job in map(client.get_job, keys)]

    database = Database(database_url)
    names = ("alone", "shared", "handed", "other")
    await asyncio.to_thread(ask)
    async with database.transaction() as session:
        await factory.cancel_jobs(session, "a", "its run")
    after_a = await asyncio.to_thread(told, *names)
    assert after_a == [("failed", "a"), ("queued", "b"), ("queued", "b"), ("queued", "b")]
    async with database.transaction() as session:
        await factory.cancel_jobs(session, "b", "its run")
    assert await asyncio.to_thread(told, *names) == [("failed", "a"), ("failed", "b"), ("failed", "b"), ("failed", "b")]
    await database.close()


async def test_what_a_job_took_is_known_of_each_cluster(client: Client) -> None:
    """A hundred jobs on one cluster must not hide what another one took, and a first cluster has no jobs at all."""

    def go() -> JobItem:
        for name in ("slow", "new"):
            client.put_cluster(name, ClusterPut(backend="local", usd_per_hour=1, watts=1))
        for number, (cluster, seconds) in enumerate([("slow", 80.0), ("local", 40.0), ("local", 20.0)]):
            client.submit_job(body(WRITE, key=f"k{number}").model_copy(update={"cluster": cluster}))
            client.start_attempt(f"k{number}", AttemptCreate(holder="h"))
            ref = client.upload(Path(__file__))
            client.finish_attempt(f"k{number}", finish(Outcome.DONE, outputs={"a": ref}, wall_s=seconds))
        ask = PlaceAsk(among=["local", "slow", "new"])
        return client.submit_job(body(WRITE, key="k9").model_copy(update={"place": ask}))

    job = await asyncio.to_thread(go)
    assert job.placement is not None
    assert {option.cluster: option.seconds for option in job.placement.options} == {
        "local": 30, "slow": 80, "new": 55,
    }  # fmt: skip
