"""Runs one attempt of one job: fetch inputs, run the command, upload outputs, report.

The same wrapper runs in a thread of the local cluster and as `python -m flows.runners.wrapper KEY ORDER` on any other.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from control_plane.client import Client, ClientError, file_digest
from control_plane.factory.domain import Outcome
from control_plane.factory.schemas import AttemptCreate, AttemptFinish, AttemptRenew, FilePath, FileRef, JobItem
from control_plane.kit import tracing
from flows.runners import held
from flows.runners.watch import ECHO_CHARS, Watch, storable
from flows.steps.orders import holder_tag

LEASH = str(files("control_plane") / "kit" / "leash.py")  # run as a program, by path, so that it starts fast
LEASE_S = 15.0
RENEW_S = 3.0
TRY_ELSEWHERE = 75
KILLED = 128 + 9
MAX_OUTPUT_FILES = 5000
PRIVATE = ("FLEETLOOP_TOKEN", "FLEETLOOP_TOKEN_FILE", tracing.VARIABLE, *tracing.PRIVATE)
"""What commands are not told: they need no word with control plane or collector, their wrapper has it for them."""


class OwnFaultError(RuntimeError):
    """What the job asks for or wrote cannot be taken; trying again would end the same way."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The one attempt an order may take, and how its holder's name begins."""

    asked: int
    attempt: int
    tag: str


def run_job(
    client: Client, key: str, home: Path, holder: str, turn: Turn | None = None, watch: Watch | None = None
) -> JobItem:
    """Run one attempt, with a turn only that one, and return the job as it then stands.

    Raises:
        ClientError: `job_not_free` if somebody else holds the job, `attempt_lost` if the lease ran out meanwhile.
    """
    only = {"asked": turn.asked, "attempt": turn.attempt} if turn else {}
    body = AttemptCreate(holder=holder, lease_s=LEASE_S, node=held.node(), gpu_ids=held.gpu_ids(os.environ), **only)
    job = client.start_attempt(key, body)
    with tracing.span("job", parent=job.traceparent, kind="consumer", job__key=key, job__kind=job.kind):
        return _run_attempt(client, job, home, holder, watch or Watch())


def _run_attempt(client: Client, job: JobItem, home: Path, holder: str, watch: Watch) -> JobItem:
    keeper = threading.Thread(target=_keep_lease, args=(client, job, holder, watch), daemon=True)
    keeper.start()
    # Named for its holder: a home may be shared by wrappers of several attempts, askings and control planes.
    folder = home / "jobs" / holder
    begun = time.monotonic()
    try:
        outcome, failure, outputs, usage = _attempt(client, job, folder, home / "cache", watch)
    except OwnFaultError as error:
        outcome, failure, outputs, usage = Outcome.FAILED, str(error), {}, _read_usage(folder)
    except (OSError, ClientError) as error:
        outcome, failure, outputs, usage = Outcome.LOST, f"{type(error).__name__}: {error}", {}, {}
    finally:
        watch.stop.set()
        keeper.join()
        shutil.rmtree(folder, ignore_errors=True)
    wall_s = time.monotonic() - begun
    return client.finish_attempt(
        job.key,
        AttemptFinish(
            attempt=job.attempt,
            holder=holder,
            outcome=outcome,
            outputs=outputs or None,
            failure=failure[-4000:] if failure else None,
            wall_s=wall_s,
            cpu_s=float(usage.get("cpu_s", 0.0)),
            gpu_s=wall_s * job.spec.gpus,  # held, whether busy or not
        ),
    )


def _attempt(
    client: Client, job: JobItem, folder: Path, cache: Path, watch: Watch
) -> tuple[Outcome, str | None, dict[str, FileRef], Mapping[str, Any]]:
    _prepare(client, job, folder, cache)
    code = _run(job, folder, watch)
    usage = _read_usage(folder)
    if watch.must_end:
        return *_cut_short(watch), {}, usage
    if code in (TRY_ELSEWHERE, KILLED):
        return Outcome.LOST, f"the command was killed or gave up its place (exit {code}): {watch.tail}", {}, usage
    if code != 0:
        why = f"no end after {job.spec.timeout_s:g} s" if code is None else f"exit status {code}"
        return Outcome.FAILED, f"{why}: {watch.tail}", {}, usage
    outputs = _upload(client, folder / "outputs")
    if not outputs:
        return Outcome.FAILED, f"it wrote nothing under outputs/: {watch.tail}", {}, usage
    return Outcome.DONE, None, outputs, usage


def _cut_short(watch: Watch) -> tuple[Outcome, str]:
    if watch.lost:
        return Outcome.LOST, "another attempt took the job over"
    if watch.cancelled:
        return Outcome.FAILED, f"cancelled: {watch.cancelled}"
    return Outcome.LOST, watch.evicted


def _prepare(client: Client, job: JobItem, folder: Path, cache: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "outputs").mkdir(parents=True)
    (folder / "inputs").mkdir()
    (folder / "params.json").write_text(json.dumps(job.spec.params))
    for path, ref in job.spec.inputs.items():
        target = folder / "inputs" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(client, ref, cache / ref.sha256[:2] / ref.sha256, target)


def _fetch(client: Client, ref: FileRef, held: Path, target: Path) -> None:
    """Copy an input out of the cache: a copy, for a command may write to it; checked, for a cache may be shared."""
    if held.exists():
        shutil.copyfile(held, target)
        if file_digest(target).sha256 == ref.sha256:
            return
    client.download(ref.sha256, held)
    shutil.copyfile(held, target)


def _run(job: JobItem, folder: Path, watch: Watch) -> int | None:
    """Run the command on its leash; return its exit status, None if it outlived its time."""
    command = [sys.executable, "-S", "-E", LEASH, str(folder / "usage.json"), *_argv(job)]
    with _start(command, folder, _environment(job)) as child:
        reader = threading.Thread(target=_read_lines, args=(child, watch), daemon=True)
        reader.start()
        code = _wait(child, job.spec.timeout_s, watch)
        reader.join(5)
    return code


def _environment(job: JobItem) -> dict[str, str]:
    """Return ours without what is private, and with what the job asks for."""
    ours = {name: value for name, value in os.environ.items() if name not in PRIVATE}
    traced = {tracing.VARIABLE: now} if (now := tracing.header()) else {}
    return {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | ours | job.spec.env | traced


def _start(command: list[str], folder: Path, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, cwd=folder, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)
    except ValueError as error:  # a NUL in a word, or a variable with "=" in its name
        raise OwnFaultError(f"the command cannot be started: {error}") from error


def _argv(job: JobItem) -> list[str]:
    """Return the command with `python` made this interpreter, so that it runs in the environment of its wrapper."""
    first, *rest = job.spec.command
    return [sys.executable if first == "python" else first, *rest]


def _wait(child: "subprocess.Popen[bytes]", timeout_s: float, watch: Watch) -> int | None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not watch.must_end:
        try:
            code = child.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
        return 128 - code if code < 0 else code  # below 0 the leash itself was killed
    child.terminate()  # the leash kills the whole group
    child.wait()
    return KILLED if watch.must_end else None


def _read_lines(child: "subprocess.Popen[bytes]", watch: Watch) -> None:
    if child.stdout is None:
        return
    for raw in iter(lambda: child.stdout.readline(1 << 16) if child.stdout else b"", b""):
        watch.hear(storable(raw.decode(errors="replace").rstrip()))


def _keep_lease(client: Client, job: JobItem, holder: str, watch: Watch) -> None:
    while not watch.stop.wait(RENEW_S):
        body = AttemptRenew(
            attempt=job.attempt, holder=holder, lease_s=LEASE_S, progress=watch.progress, note=watch.note
        )
        try:
            watch.cancelled = client.renew_attempt(job.key, body).cancel_reason or ""
        except ClientError as error:
            watch.lost = watch.lost or error.code == "attempt_lost"


def _read_usage(folder: Path) -> Mapping[str, Any]:
    try:
        usage: Mapping[str, Any] = json.loads((folder / "usage.json").read_text())
    except (OSError, ValueError):
        return {}
    return usage


def _upload(client: Client, outputs: Path) -> dict[str, FileRef]:
    found = _outputs(outputs)
    return {name: client.upload(path) for name, path in found.items()}


def _outputs(outputs: Path) -> dict[str, Path]:
    """Return the files under `outputs` by the names they are kept under; OwnFaultError if they cannot be kept."""
    paths = sorted(path for path in outputs.rglob("*") if path.is_file() and not path.is_symlink())
    if len(paths) > MAX_OUTPUT_FILES:
        raise OwnFaultError(f"it wrote {len(paths)} files, at most {MAX_OUTPUT_FILES} are taken")
    named = {path.relative_to(outputs).as_posix(): path for path in paths}
    try:
        TypeAdapter(dict[FilePath, Path]).validate_python(named)
    except ValidationError as error:
        raise OwnFaultError(
            f"no file of such a name is taken: {storable(repr(error.errors()[0]['loc'][0]))}"
        ) from error
    return named


def main() -> None:
    """Run the job named on the command line, with an order's name only its attempt.

    FLEETLOOP_SERVER says where the control plane is, FLEETLOOP_HOME where to work. The token is in FLEETLOOP_TOKEN or,
    since clusters show the environment of jobs to others, in the file that FLEETLOOP_TOKEN_FILE names. Told to leave
    (SIGTERM: preempted, drained, over the cluster's limit) it says so in the ledger before it goes.
    """
    tracing.start("fleetloop-job")
    client = Client(os.environ["FLEETLOOP_SERVER"], _token())
    watch, turn = Watch(echo_left=ECHO_CHARS), turn_of(sys.argv[2]) if len(sys.argv) > 2 else None
    signal.signal(signal.SIGTERM, lambda *_: setattr(watch, "evicted", "told to leave its place (SIGTERM)"))
    holder = "-".join(filter(None, [turn.tag if turn else "", os.uname().nodename, str(os.getpid())]))
    try:
        job = run_job(client, sys.argv[1], Path(os.environ.get("FLEETLOOP_HOME", ".fleetloop")), holder, turn, watch)
    except ClientError as error:
        raise SystemExit(f"{error.code}: {error}") from error
    raise SystemExit(0 if job.state == "done" else 1)


def turn_of(order: str) -> Turn:
    """Read an order's name: KEY.INSTANT.ASKED.ATTEMPT."""
    _, asked, attempt = order.rsplit(".", 2)
    return Turn(int(asked), int(attempt), holder_tag(order))


def _token() -> str:
    path = os.environ.get("FLEETLOOP_TOKEN_FILE")
    return Path(path).read_text().strip() if path else os.environ["FLEETLOOP_TOKEN"]


if __name__ == "__main__":
    main()
