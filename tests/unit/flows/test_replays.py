"""What the flow shows people of a gate: which scenarios, by which jobs, and what happens when it cannot."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from control_plane.client import ClientError
from control_plane.evaluation.domain import Verdict
from control_plane.evaluation.schemas import FlipItem, GateItem, GateReplayPut
from flows.runners.cluster import JobFailedError
from flows.runners.replays import Shown, show_flips
from flows.runners.session import RunSession
from flows.steps.scenes import scenes_of

REF = SimpleNamespace(sha256="0" * 64, size_bytes=1)


def flip(scenario: str, suite: str = "nominal", cluster: str = "", *, broke: bool = True, **more: Any) -> FlipItem:
    return FlipItem(suite=suite, scenario=scenario, cluster=cluster or scenario, broke=broke, metric="incident", **more)


def gate_of(flips: list[FlipItem], verdict: Verdict = Verdict.INCONCLUSIVE, *, asks: bool = True) -> GateItem:
    parts = [SimpleNamespace(rule="reviews_closed")] if asks else []
    return cast("GateItem", SimpleNamespace(id="gate", flips=flips, verdict=verdict, parts=parts))


class Client:
    def __init__(self, status: int = 0) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.status = status

    def put_replay(self, gate_id: str, body: GateReplayPut) -> None:
        if self.status:
            raise ClientError(self.status, "replay_refused", "it is of another model")
        self.told.append((body.suite, body.scenario, body.side))


class Run:
    """A run whose jobs are done at once, or fail."""

    def __init__(
        self, client: Client, *, able: bool = True, made: str = "replay/{}.json", fails: bool = False, **params: str
    ) -> None:
        self.params = params
        commands = SimpleNamespace(replay="command" if able else None)
        self.client, self.made, self.fails = client, made, fails
        self.workload = SimpleNamespace(spec=SimpleNamespace(commands=commands))
        self.jobs: list[tuple[dict[str, Any], str, list[str]]] = []

    def submit(self, kind: str, command: Any, params: dict[str, Any], inputs: Any, subject: str) -> Any:
        self.jobs.append((params, subject, sorted(inputs)))
        outputs = {self.made.format(name): REF for name in params["scenarios"]}
        return Job(key="k", kind=kind, outputs=outputs, failure=None)

    def run_jobs(self, jobs: list[Any]) -> Any:
        for job in jobs:
            if self.fails:
                raise JobFailedError(job.model_copy(update={"failure": "no GPU"}))
            yield job


class Job(SimpleNamespace):
    def model_copy(self, update: dict[str, Any]) -> "Job":
        return Job(**{**vars(self), **update})


def version(number: int) -> Any:
    files = [{"path": "model.onnx", "sha256": "1" * 64, "size_bytes": 1}]
    return SimpleNamespace(content_digest=f"{number}" * 64, version=number, content={"files": files})


SUITES: list[Any] = [SimpleNamespace(name=name, digest="a" * 64, size_bytes=1) for name in ("nominal", "field")]


def shown(run: Run, gate: GateItem, champion: Any = None) -> Shown:
    return show_flips(cast("RunSession", run), version(2), champion or version(1), gate, SUITES)


def test_every_question_gets_a_scenario_before_any_gets_two() -> None:
    flips = [flip(f"a{i}", cluster="a") for i in range(9)] + [flip(f"b{i}", cluster="b", broke=False) for i in range(2)]
    assert scenes_of(gate_of(flips)) == [("nominal", name) for name in ("a0", "b0", "a1", "b1", "a2", "a3")]


def test_a_gate_that_passed_and_asks_nothing_shows_nothing() -> None:
    assert scenes_of(gate_of([flip("a")], Verdict.PASS, asks=False), unasked=True) == []
    assert scenes_of(gate_of([])) == []
    assert scenes_of(gate_of([], Verdict.FAIL, asks=False), unasked=True) == []
    assert scenes_of(gate_of([flip("a")], Verdict.FAIL, asks=False)) == []


def test_a_run_that_wants_flips_shows_two_of_each_direction_of_one_suite() -> None:
    flips = [flip(f"a{i}") for i in range(4)] + [flip("m", broke=False), flip("f", "field"), flip("g", grave=True)]
    gate = gate_of(flips, Verdict.FAIL, asks=False)
    found = scenes_of(gate, unasked=True)
    run = Run(Client(), replays="flips")
    assert shown(run, gate) == Shown(len(found))
    assert found == [("nominal", "g"), ("nominal", "a0"), ("nominal", "m")]


@pytest.mark.parametrize("hostile", ["../up", "a/b", "", ".", "<script>", "x" * 101])
def test_a_name_that_is_no_file_name_is_left_out(hostile: str) -> None:
    assert scenes_of(gate_of([flip(hostile), flip("good")])) == [("nominal", "good")]


def test_both_models_drive_each_suite_once_and_the_control_plane_is_told() -> None:
    run = Run(Client())
    assert shown(run, gate_of([flip("a"), flip("b"), flip("c", "field")])) == Shown(3)
    assert [job[0] for job in run.jobs] == [
        {"suite": "nominal", "scenarios": ["a", "b"]},
        {"suite": "nominal", "scenarios": ["a", "b"]},
        {"suite": "field", "scenarios": ["c"]},
        {"suite": "field", "scenarios": ["c"]},
    ]
    assert run.jobs[0][1:] == ("nominal v1", ["model/model.onnx", "suite/suite.json"])
    assert len(run.client.told) == 6
    assert ("field", "c", "candidate") in run.client.told


def test_without_the_command_or_a_champion_nothing_is_asked_of_anybody() -> None:
    run = Run(Client(), able=False)
    assert shown(run, gate_of([flip("a")])) == Shown(0, "the workload has no command replay")
    able = Run(Client())
    assert show_flips(cast("RunSession", able), version(2), None, gate_of([flip("a")]), SUITES).scenarios == 0
    assert run.jobs == able.jobs == []


def test_a_workload_that_cannot_replay_costs_nobody_a_release() -> None:
    for run in (Run(Client(), fails=True), Run(Client(), made="elsewhere/{}.json"), Run(Client(422))):
        found = shown(run, gate_of([flip("a")]))
        assert found.scenarios == 0
        assert found.because
    with pytest.raises(ClientError):
        shown(Run(Client(409)), gate_of([flip("a")]))
