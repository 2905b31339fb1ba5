"""Replays for people: both models drive again what a gate asks about, and the control plane is told."""

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.client import ClientError
from control_plane.evaluation.schemas import FileRef as EvaluationFile
from control_plane.evaluation.schemas import GateItem, GateReplayPut, SuiteItem
from control_plane.factory.schemas import FileRef, JobItem
from control_plane.registry.schemas import VersionItem
from flows.runners.cluster import JobFailedError
from flows.runners.session import RunSession
from flows.runners.stages import bundle_of, prefixed
from flows.runners.workload import Command
from flows.steps.scenes import Scene, scenes_of

REFUSED = 422


@dataclass(frozen=True, slots=True)
class Shown:
    """How many scenarios people can look at, and why not where they cannot."""

    scenarios: int
    because: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """One model in some scenarios of one suite."""

    suite: SuiteItem
    side: str
    version: VersionItem
    scenarios: list[str]


def show_flips(
    run: RunSession, candidate: VersionItem, champion: VersionItem | None, gate: GateItem, suites: Sequence[SuiteItem]
) -> Shown:
    """Make the replays of a gate that was just asked.

    They decide nothing, so a workload that cannot make them costs people their pictures and nobody a release. A run
    with `"replays": "flips"` makes a few of a gate that did not pass, although it asks nobody.
    """
    command = run.workload.spec.commands.replay
    if command is None or champion is None:
        return Shown(0, "the workload has no command replay" if command is None else "there is no champion")
    scenes = scenes_of(gate, unasked=run.params.get("replays") == "flips")
    work = _work_of(scenes, {"champion": champion, "candidate": candidate}, suites)
    try:
        for each, job in zip(work, run.run_jobs([_submit(run, command, each) for each in work]), strict=True):
            _tell(run, gate, each, job)
    except JobFailedError as error:
        return Shown(0, str(error)[:500])
    except ClientError as error:
        if error.status != REFUSED:
            raise
        return Shown(0, f"refused: {error.detail}"[:500])
    return Shown(len(scenes))


def _work_of(scenes: Sequence[Scene], sides: dict[str, VersionItem], suites: Sequence[SuiteItem]) -> list[Work]:
    found = []
    for suite in suites:
        names = [scenario for name, scenario in scenes if name == suite.name]
        found += [Work(suite, side, version, names) for side, version in sides.items() if names]
    return found


def _submit(run: RunSession, command: Command, work: Work) -> JobItem:
    suite = FileRef(sha256=work.suite.digest, size_bytes=work.suite.size_bytes)
    params = {"suite": work.suite.name, "scenarios": work.scenarios}
    inputs = prefixed("model", bundle_of(work.version)) | {"suite/suite.json": suite}
    return run.submit("replay", command, params, inputs, f"{work.suite.name} v{work.version.version}")


def _tell(run: RunSession, gate: GateItem, work: Work, job: JobItem) -> None:
    for scenario in work.scenarios:
        ref = (job.outputs or {}).get(f"replay/{scenario}.json")
        if ref is None:
            raise JobFailedError(job.model_copy(update={"failure": f"it made no replay/{scenario}.json"}))
        file = EvaluationFile(sha256=ref.sha256, size_bytes=ref.size_bytes)
        body = {"suite": work.suite.name, "scenario": scenario, "side": work.side, "file": file}
        run.client.put_replay(gate.id, GateReplayPut.model_validate(body))
