"""What a dispatcher does next, over everything it may see; and what the words of Slurm and Ray come to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path, PurePosixPath

import httpx
import pytest

from control_plane.factory.domain import JobState, Outcome
from flows.runners.back_ends import ray_jobs, slurm
from flows.runners.back_ends.interface import BackEndError, Order
from flows.runners.back_ends.launch import Launch
from flows.runners.wrapper import turn_of
from flows.steps.orders import GRACE_S, Act, Phase, Seen, View, holder_tag, next_move, order_name

QUEUED = View(JobState.QUEUED, is_ours=False, silent_s=0, waited_s=0, wait_limit_s=100, seen=Seen(Phase.UNKNOWN))
RUNNING = replace(QUEUED, state=JobState.RUNNING, is_ours=True)
ORDER = Order("job.1.2", "job", 1, 2, 1.5, 0, 0, 61.0)
BORN = datetime(2026, 11, 27, tzinfo=UTC)
LAUNCH = Launch("http://host", PurePosixPath("/a/to ken"), PurePosixPath("/h"), "/opt/python", {"A": "it's"})


@pytest.mark.parametrize(
    ("view", "act", "outcome"),
    [
        (QUEUED, Act.SUBMIT, Outcome.LOST),
        (replace(QUEUED, seen=Seen(Phase.WAITING)), Act.WAIT, Outcome.LOST),
        (replace(QUEUED, seen=Seen(Phase.RUNNING)), Act.WAIT, Outcome.LOST),
        (replace(QUEUED, seen=Seen(Phase.GONE)), Act.WRITE_OFF, Outcome.LOST),
        (replace(QUEUED, seen=Seen(Phase.STOPPED)), Act.WRITE_OFF, Outcome.FAILED),
        (replace(QUEUED, seen=Seen(Phase.WAITING), waited_s=101), Act.DROP, Outcome.FAILED),
        (replace(QUEUED, misfit="no images"), Act.WRITE_OFF, Outcome.FAILED),
        (replace(RUNNING, seen=Seen(Phase.RUNNING)), Act.WAIT, Outcome.LOST),
        (replace(RUNNING, seen=Seen(Phase.UNKNOWN)), Act.WAIT, Outcome.LOST),
        (replace(RUNNING, seen=Seen(Phase.GONE)), Act.WRITE_OFF, Outcome.LOST),
        (replace(RUNNING, seen=Seen(Phase.STOPPED)), Act.WRITE_OFF, Outcome.FAILED),
        (replace(RUNNING, seen=Seen(Phase.GONE), is_ours=False), Act.WAIT, Outcome.LOST),
        (replace(RUNNING, seen=Seen(Phase.RUNNING), silent_s=1), Act.WAIT, Outcome.LOST),
        (replace(RUNNING, seen=Seen(Phase.RUNNING), silent_s=GRACE_S + 1), Act.DROP, Outcome.LOST),
        (replace(RUNNING, seen=Seen(Phase.UNKNOWN), silent_s=1), Act.WRITE_OFF, Outcome.LOST),
        (replace(RUNNING, seen=Seen(Phase.RUNNING), silent_s=1, is_ours=False), Act.WRITE_OFF, Outcome.LOST),
    ],
)
def test_the_next_move(view: View, act: Act, outcome: Outcome) -> None:
    move = next_move(view)
    assert (move.act, move.outcome) == (act, outcome)
    assert move.because or act in (Act.SUBMIT, Act.WAIT)


def test_no_sight_ends_a_job_that_is_held_by_another_or_is_over() -> None:
    for state, phase, ours in product((JobState.DONE, JobState.FAILED, JobState.RUNNING), Phase, (True, False)):
        held = replace(RUNNING, state=state, seen=Seen(phase), is_ours=ours and state is not JobState.RUNNING)
        assert next_move(held).act is Act.WAIT, held


def test_an_order_is_read_as_it_was_named() -> None:
    name = order_name("train-a.b:c", BORN, 3, 4)
    turn = turn_of(name)
    assert (turn.asked, turn.attempt, turn.tag) == (3, 4, holder_tag(name))
    assert holder_tag(name) != holder_tag(order_name("train-a.b:c", BORN + timedelta(microseconds=1), 3, 4))


def test_what_squeue_says() -> None:
    lines = [
        "a.1.1|7|RUNNING|None", "a.1.1|8|PENDING|Dependency", "b.1.1|9|NODE_FAIL|None", "c.1.1|10|TIMEOUT|TimeLimit",
        "d.1.1|11|PENDING|Resources", "e.1.1|12|CANCELLED by 0|None", "e.1.1|3|RUNNING|None", "f.1.1|13|PREEMPTED|None",
        "g.1.1|14|SOMETHING_NEW|None", "rubbish", "h.1.1|x|RUNNING|", "i.1.1|15||",
    ]  # fmt: skip
    seen = slurm.seen_of(lines)
    assert {name: each.phase.value for name, each in seen.items()} == {
        "a.1.1": "waiting", "b.1.1": "gone", "c.1.1": "stopped", "d.1.1": "waiting", "e.1.1": "running",
        "f.1.1": "gone", "g.1.1": "gone",
    }  # fmt: skip
    assert seen["d.1.1"].because == "Slurm says PENDING (Resources)"


def test_what_sbatch_is_asked() -> None:
    asked = slurm.sbatch_arguments(ORDER, slurm.SlurmSettings("gpu", arguments=("--nice",)), Path("/l%"))
    assert {"--job-name=job.1.2", "--cpus-per-task=2", "--time=2", "--partition=gpu", "--nice"} <= set(asked)
    assert "--output=/l%%/job.1.2.log" in asked
    assert not any(each.startswith(("--mem", "--gres", "--qos")) for each in asked)
    more = replace(ORDER, gpus=2, memory_bytes=(1 << 20) + 1)
    assert {"--gres=gpu:2", "--mem=2M"} <= set(slurm.sbatch_arguments(more, slurm.SlurmSettings(), Path("/l")))
    script = LAUNCH.script(ORDER)
    assert script.endswith("exec /opt/python -m flows.runners.wrapper job job.1.2\n")
    assert "export A='it'\"'\"'s'" in script
    assert "export PATH=/usr/local/bin:/usr/bin:/bin\n" in script


def test_what_ray_is_asked_and_says() -> None:
    body = ray_jobs.job_of(ORDER, LAUNCH)
    assert body["submission_id"] == "job.1.2"
    assert body["entrypoint_num_cpus"] == 1.5
    assert body["runtime_env"]["env_vars"]["FLEETLOOP_TOKEN_FILE"] == "/a/to ken"
    assert "PATH" not in body["runtime_env"]["env_vars"]
    given = ray_jobs.job_of(ORDER, replace(LAUNCH, env={"PATH": "/opt/bin"}))
    assert given["runtime_env"]["env_vars"]["PATH"] == "/opt/bin"
    said = {status: ray_jobs.seen_of({"status": status, "message": "x\nlast"}).phase for status in ray_jobs.PHASES}
    assert said == ray_jobs.PHASES
    assert ray_jobs.seen_of({"status": "FAILED", "message": "x\nlast"}) == Seen(Phase.GONE, "Ray says FAILED: last")


@pytest.mark.parametrize("said", ["<html>a proxy's page</html>", "[1]", "null"])
def test_what_is_no_answer_of_ray_is_the_back_ends_failure(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    back_end = ray_jobs.RayBackEnd(LAUNCH, ray_jobs.RaySettings("http://ray"))
    proxy = httpx.MockTransport(lambda _: httpx.Response(200, text=said))
    monkeypatch.setattr(back_end._api, "_http", httpx.Client(base_url="http://ray", transport=proxy))
    for ask in (lambda: back_end.see(["job.1.2"]), lambda: back_end.logs("job.1.2")):
        with pytest.raises(BackEndError, match="not an answer of the cluster: 200"):
            ask()


def test_slurm_that_cannot_be_asked_is_the_back_ends_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").write_text("a file where a folder should be")
    back_end = slurm.SlurmBackEnd(replace(LAUNCH, home=PurePosixPath(tmp_path)), slurm.SlurmSettings())
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    queue = programs / "squeue"
    queue.write_text("#!/bin/sh\nprintf 'a.1.1|7|RUNNING|caf\\351\\n'\n")
    queue.chmod(0o755)
    assert back_end.see(["a.1.1"])["a.1.1"].because == "Slurm says RUNNING (caf\ufffd)"
    with pytest.raises(BackEndError, match="no folder for logs"):
        back_end.submit(ORDER)
    with pytest.raises(BackEndError, match=r"the log of job\.1\.2"):
        back_end.logs(ORDER.name)
    queue.write_text("#!/bin/sh\necho no controller >&2\nexit 1\n")
    with pytest.raises(BackEndError, match="squeue exited 1: no controller"):
        back_end.see(["a.1.1"])
