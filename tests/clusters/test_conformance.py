"""What every back end of clusters must do.

Local pool, Slurm and Ray are real, Kubernetes and OSMO stand-ins; all but the pool have two nodes of one CPU each.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from control_plane.factory.domain import Policy
from control_plane.factory.schemas import JobCreate, JobItem, JobSpec, PlaceAsk
from flows.runners.back_ends.interface import Order
from flows.runners.cluster import JobFailedError
from flows.steps.orders import Phase, order_name
from tests.clusters.conftest import ROOT, Bench, gone, running
from tests.clusters.processes import until

pytestmark = pytest.mark.timeout(240)
T = TypeVar("T")
WRITE = "import pathlib; pathlib.Path('outputs/a.txt').write_text('made')"


async def go(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


def told(file: Path, then: str) -> str:
    """Return a command that writes its process number into a file, then goes on."""
    return f"import os, pathlib, time; pathlib.Path('{file}').write_text(f'{{os.getpid()}}\\n')\n{then}"


def once(file: Path, first: str) -> str:
    """Return a command whose first attempt does one thing and the later ones write."""
    return f"import pathlib\nif pathlib.Path('{file}').exists():\n    {WRITE}\nelse:\n    " + told(file, first).replace(
        "\n", "\n    "
    )


def marking(folder: Path, then: str) -> str:
    """Return a command that leaves a mark for every time it runs."""
    folder.mkdir()
    return f"import pathlib, os, time; pathlib.Path('{folder}', str(os.getpid())).touch(); {then}"


async def test_a_key_runs_once_however_often_it_is_submitted(bench: Bench, tmp_path: Path) -> None:
    def work() -> JobItem:
        marks = tmp_path / "marks"
        code = marking(marks, f"time.sleep(1); {WRITE}")
        for _ in range(3):
            job = bench.ask(code)
        clusters = [bench.open(), bench.open()]
        order = Order(order_name(job.key, job.created_at, 1, 1), job.key, 1, 1, 1, 0, 0, 600)
        for _ in range(2):
            clusters[0].back_end.submit(order)
        futures = [cluster.submit(job) for cluster in clusters for _ in range(2)]
        ended = [future.result(120) for future in futures]
        assert {item.state for item in ended} == {"done"}
        assert len(list(marks.iterdir())) == 1
        return ended[0]

    job = await go(work)
    assert (job.attempt, job.asked, job.cluster) == (1, 1, bench.name)


async def test_status_logs_outputs_and_usage(bench: Bench, tmp_path: Path) -> None:
    def work() -> None:
        pid, free = tmp_path / "pid", tmp_path / "free"
        busy = "end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
        wait = f"print('said by the job', flush=True)\nwhile not pathlib.Path('{free}').exists(): time.sleep(0.1)"
        cluster, job = bench.open(), bench.ask(told(pid, f"{busy}\n{wait}\n{WRITE}"))
        future = cluster.submit(job)
        running(pid)
        name = order_name(job.key, job.created_at, 1, 1)
        assert cluster.back_end.see([name, "nobody.1.1"]).keys() == {name}
        until(lambda: cluster.back_end.see([name])[name].phase is Phase.RUNNING, 20, "the order is seen to run")
        assert bench.client.get_job(job.key).state == "running"
        until(lambda: "said by the job" in cluster.logs(bench.client.get_job(job.key)), 20, "the log has it")
        free.touch()
        done = future.result(60)
        got = tmp_path / "got"
        bench.client.download((done.outputs or {})["a.txt"].sha256, got)
        assert got.read_text() == "made"
        assert done.wall_s > done.cpu_s > 0.3
        assert done.usd == pytest.approx(done.wall_s)
        assert (done.energy_j, done.energy_is_estimate) == (pytest.approx(100 * done.cpu_s), True)
        [line] = bench.client.ledger("cluster").lines
        assert (line.name, line.usd) == (bench.name, pytest.approx(done.usd))
        until(lambda: not cluster.back_end.see([name])[name].alive, 30, "the order is seen to have ended")

    await go(work)


async def test_its_own_failure_is_final(bench: Bench) -> None:
    def work() -> JobFailedError:
        job = bench.ask("print('why it failed'); raise SystemExit(3)")
        with pytest.raises(JobFailedError) as failed:
            bench.open().submit(job).result(120)
        return failed.value

    failed = await go(work)
    assert failed.job.attempt == 1
    assert "exit status 3" in str(failed)
    assert "why it failed" in str(failed)


async def test_no_outputs_no_success(bench: Bench) -> None:
    """The back end calls it a success: its command exited with 0."""

    def work() -> str:
        with pytest.raises(JobFailedError) as failed:
            bench.open().submit(bench.ask("pass")).result(120)
        return str(failed.value)

    assert "wrote nothing under outputs/" in await go(work)


async def test_a_back_end_that_says_success_is_not_believed(bench: Bench) -> None:
    if bench.name == "local":
        pytest.skip("the local back end has no word of its own beside the wrapper's")
    bench.config["python"] = "/bin/true"

    def work() -> JobItem:
        with pytest.raises(JobFailedError) as failed:
            bench.open().submit(bench.ask(WRITE)).result(200)
        return failed.value.job

    job = await go(work)
    assert (job.state, job.attempt, job.outputs) == ("failed", 4, None)
    assert "ended before it took the job" in (job.failure or "")


async def test_a_job_that_runs_too_long_ends(bench: Bench, tmp_path: Path) -> None:
    def work() -> str:
        pid = tmp_path / "pid"
        job = bench.ask(told(pid, "time.sleep(600)"), timeout_s=2)
        with pytest.raises(JobFailedError) as failed:
            bench.open().submit(job).result(120)
        gone(running(pid))
        return str(failed.value)

    assert "no end after 2 s" in await go(work)


async def test_cancelling_ends_what_runs_and_what_waits(bench: Bench, tmp_path: Path) -> None:
    def work() -> None:
        pids = [tmp_path / "pid-1", tmp_path / "pid-2"]
        cluster = bench.open()
        jobs = [bench.ask(told(pid, "time.sleep(600)"), key=pid.name) for pid in pids]
        futures = [cluster.submit(job) for job in jobs]
        numbers = [running(pid) for pid in pids]
        waiting = bench.ask(told(tmp_path / "pid-3", WRITE), key="pid-3")
        futures.append(cluster.submit(waiting))
        name = order_name(waiting.key, waiting.created_at, 1, 1)
        until(lambda: name in cluster.back_end.see([name]), 30, "the third waits")
        for job in (*jobs, waiting):
            bench.client.cancel_job(job.key, "nobody wants it")
        for future in futures:
            with pytest.raises(JobFailedError, match="cancelled: nobody wants it"):
                future.result(60)
        for number in numbers:
            gone(number)
        assert not (tmp_path / "pid-3").exists()
        again = bench.ask(told(tmp_path / "pid-3", WRITE), key="pid-3")
        assert (again.asked, again.cancel_reason) == (2, None)
        assert bench.open().submit(again).result(120).state == "done"

    await go(work)


async def test_a_runner_that_dies_is_followed_by_one_that_finds_the_job(bench: Bench, tmp_path: Path) -> None:
    """Elsewhere the job goes on, here it died with its runner and is run again; in both cases it is done."""

    def work() -> JobItem:
        pid, free = tmp_path / "pid", tmp_path / "free"
        code = told(pid, f"while not pathlib.Path('{free}').exists(): time.sleep(0.1)\n{WRITE}")
        job = bench.ask(code)
        token = (bench.folder / "token").read_text()
        env = os.environ | {"FLEETLOOP_SERVER": bench.client.server, "FLEETLOOP_TOKEN": token, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.clusters.runner", str(bench.file), str(tmp_path / "first"), job.key]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as first:
            number = running(pid)
            first.kill()
        if bench.name == "local":
            gone(number)
        free.touch()
        return bench.open().submit(bench.client.get_job(job.key)).result(120)

    job = await go(work)
    assert (job.state, job.attempt) == ("done", 2 if bench.name == "local" else 1)


async def test_a_lost_node_costs_an_attempt(bench: Bench, tmp_path: Path) -> None:
    def work() -> JobItem:
        pid = tmp_path / "pid"
        job = bench.ask(once(pid, "time.sleep(600)"))
        future = bench.open().submit(job)
        number = running(pid)
        begun = time.monotonic()
        bench.lose_node(number)
        done = future.result(200)
        print(f"{bench.name}: done {time.monotonic() - begun:.1f} s after its node was lost")
        gone(number)
        return done

    job = await go(work)
    assert (job.state, job.attempt) == ("done", 2)


async def test_a_pre_empted_job_runs_again(bench: Bench, tmp_path: Path) -> None:
    def work() -> JobItem:
        pid = tmp_path / "pid"
        job = bench.ask(once(pid, "time.sleep(600)"))
        cluster = bench.open()
        future = cluster.submit(job)
        number = running(pid)
        begun = time.monotonic()
        bench.preempt(cluster, bench.client.get_job(job.key), number)
        done = future.result(120)
        print(f"{bench.name}: done {time.monotonic() - begun:.1f} s after it was pre-empted")
        gone(number)
        return done

    job = await go(work)
    assert (job.state, job.attempt) == ("done", 2)


async def test_a_placed_job_runs_where_it_was_placed(bench: Bench) -> None:
    def work() -> JobItem:
        spec = JobSpec(command=["python", "-c", WRITE], timeout_s=60, memory_bytes=64 << 20)
        ask = PlaceAsk(among=[bench.name], policy=Policy.ENERGY, expected_s=2)
        job = bench.client.submit_job(JobCreate(key="job-1", kind="test", place=ask, spec=spec))
        return bench.open().submit(job).result(120)

    job = await go(work)
    assert (job.state, job.cluster) == ("done", bench.name)
    assert job.placement is not None
    assert f"{bench.name} is the only one that fits" in job.placement.because
