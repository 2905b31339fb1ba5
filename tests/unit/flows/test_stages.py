"""How the flow simulates: until every suite is settled, and what it does with incidents."""

from types import SimpleNamespace
from typing import Any, cast

from control_plane.evaluation.domain import CaseStatus
from control_plane.evaluation.schemas import ScenarioCheck, StopItem
from flows.runners import stages
from flows.runners.session import RunSession


class Server:
    """A control plane that answers what a test wants and remembers what it was asked."""

    def __init__(self, sizes: dict[str, int], stops: dict[str, int], final: str = "") -> None:
        self.sizes, self.stops, self.final = sizes, stops, final
        self.done: dict[tuple[str, str], int] = {}
        self.checks: dict[str, ScenarioCheck] = {}

    def create_evaluation(self, body: Any) -> Any:
        name = (body.suite, body.content_digest)
        missing = list(range(self.done.get(name, 0), self.sizes[body.suite]))
        return SimpleNamespace(id=f"{body.suite}/{body.content_digest}", missing=missing)

    def add_results(self, evaluation_id: str, body: Any) -> None:
        suite, side = evaluation_id.split("/")
        self.done[suite, side] = self.done.get((suite, side), 0) + int(body.job_key)

    def ask_stop(self, question: Any) -> list[StopItem]:
        answers = []
        for suite in question.suites:
            count = self.done.get((suite, question.candidate), 0)
            enough = count >= self.stops[suite]
            answers.append(StopItem(enough=enough, because=f"{suite}: {count}", final=enough and suite == self.final))
        return answers

    def list_cases(self, evaluation_id: str) -> list[Any]:
        outcomes = {"e1": [1, 1, 1], "e2": [1, 0, 0]}
        metrics = [(source, value) for source, values in outcomes.items() for value in values]
        return [
            SimpleNamespace(cluster=source, status=CaseStatus.OK, metrics={"incident": float(value)})
            for source, value in metrics
        ]

    def list_versions(self, model: str) -> list[Any]:
        return [version(1), version(2), version(7)]

    def list_recordings(self) -> list[Any]:
        """Incident e1 happened to version 7, which is the champion no more."""
        return [SimpleNamespace(event_id="e1", content_digest="7" * 64)]

    def get_dataset(self, digest: str) -> Any:
        clips = [{"event_id": event, "recording": event[-1] * 64, "split": "holdout"} for event in ("e1", "e2")]
        return SimpleNamespace(manifest={"clips": clips})

    def put_scenario(self, model: str, source: str, body: ScenarioCheck) -> None:
        self.checks[source] = body


def run_of(server: Server, scale: int = 1) -> RunSession:
    ref = SimpleNamespace(sha256="0" * 64, size_bytes=1)
    spec = SimpleNamespace(
        shard_scenarios=10, device_class="cart", gate={}, commands=SimpleNamespace(simulate=None), suites={}
    )

    def submit(kind: str, command: Any, params: dict[str, Any], inputs: Any, subject: str) -> Any:
        size = params["stop"] - params["start"]
        return SimpleNamespace(key=str(size), outputs={"results/results.jsonl": ref})

    run = SimpleNamespace(
        client=server,
        workload=SimpleNamespace(model="times", spec=spec),
        clusters=SimpleNamespace(slots=2, shard_scale=scale),
        run_id="run",
        submit=submit,
        run_jobs=iter,
    )
    return cast("RunSession", run)


def version(number: int) -> Any:
    return SimpleNamespace(content_digest=f"{number}" * 64, version=number, content={"files": []})


def suite(server: Server, digest: str, kind: str = "nominal") -> Any:
    return SimpleNamespace(digest=digest, name=digest[0], kind=kind, scenarios=server.sizes[digest], size_bytes=1)


A, B, C = "a" * 64, "b" * 64, "c" * 64


def test_each_suite_is_simulated_until_it_is_settled() -> None:
    server = Server({A: 100, B: 50, C: 30}, {A: 20, B: 1000, C: 0})
    suites = [suite(server, name) for name in (A, B, C)]
    found = stages.evaluate(run_of(server), version(2), version(1), suites)
    assert {name: server.done.get((name, "2" * 64), 0) for name in (A, B, C)} == {A: 20, B: 50, C: 0}
    assert server.done[A, "1" * 64] == 20
    assert found.suites == [A, B, C]


def test_where_starting_a_job_is_slow_shards_are_longer() -> None:
    server = Server({A: 100}, {A: 15})
    stages.evaluate(run_of(server, scale=3), version(2), version(1), [suite(server, A)])
    assert server.done[A, "2" * 64] == server.done[A, "1" * 64] == 30


def test_nothing_is_simulated_once_a_guard_has_failed() -> None:
    server = Server({A: 100, B: 50}, {A: 10, B: 10}, final=A)
    found = stages.evaluate(run_of(server), version(2), version(1), [suite(server, A), suite(server, B)])
    assert (B, "2" * 64) not in server.done
    assert found.because == [f"{A}: 10"]
    assert found.suites == [A, B]


def test_incidents_are_driven_again_with_the_champion_alone_and_judged_by_no_gate() -> None:
    server = Server({A: 6, B: 10}, {B: 10})
    suites = [suite(server, A, "reproduction"), suite(server, B)]
    found = stages.evaluate(run_of(server), version(2), version(1), suites)
    assert server.done[A, "1" * 64] == 6
    assert (A, "2" * 64) not in server.done
    assert found.suites == [B]
    assert {name: (c.failures, c.seeds) for name, c in server.checks.items()} == {"e1": (3, 3), "e2": (1, 3)}
    assert {c.guilty for c in server.checks.values()} == {"1" * 64}


def test_an_incident_is_driven_again_with_the_model_that_was_to_blame() -> None:
    server = Server({A: 6, B: 10}, {B: 10})
    suites = [suite(server, A, "reproduction"), suite(server, B)]
    stages.evaluate(run_of(server), version(2), version(1), suites, "dataset")
    assert (server.checks["e1"].guilty, server.checks["e1"].recording) == ("7" * 64, "1" * 64)
    assert (server.checks["e2"].guilty, server.checks["e2"].failures) == ("1" * 64, 1)
    assert server.done[A, "7" * 64] == server.done[A, "1" * 64] == 6


def test_a_first_model_has_no_incidents_to_drive_again() -> None:
    server = Server({A: 6, B: 10}, {B: 10})
    stages.evaluate(run_of(server), version(2), None, [suite(server, A, "reproduction"), suite(server, B)])
    assert server.checks == {}
