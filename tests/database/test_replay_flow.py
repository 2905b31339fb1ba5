"""From a gate that asks to what people see, with the real control plane, jobs, models and simulation."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from control_plane.cli.workloads import add_workload
from control_plane.evaluation.schemas import EvaluationCreate, FileRef, GateCreate, SuiteCreate, SuiteItem
from control_plane.kit.roles import Role
from control_plane.registry.schemas import FileRef as RegistryFile
from control_plane.registry.schemas import ModelPut, VersionCreate, VersionItem
from flows.runners import stages
from flows.runners.back_ends.configured import Clusters
from flows.runners.cluster import LocalCluster
from flows.runners.replays import Shown, show_flips
from flows.runners.session import RunSession
from flows.runners.workload import find_workload
from flows.workloads.kit.bundle import write_bundle
from flows.workloads.warehouse_amr.policy import new_network, to_onnx
from tests.support.live import Live, serve

ROOT = Path(__file__).parents[2]
SIZE = 12
POLICY = {
    "metric": "collision",
    "parts": [{"suite": "field", "rule": "non_inferior", "margin": 0.02}, {"rule": "reviews_closed"}],
}


def register(run: RunSession, folder: Path, seed: int) -> VersionItem:
    contract = {key: run.workload.spec.model[key] for key in ("name", "inputs", "outputs", "golden")}
    rng = np.random.default_rng(1)
    rows = {"scan": rng.random((8, 3, 60)).astype(np.float32), "vec": rng.random((8, 14)).astype(np.float32)}
    write_bundle(folder, to_onnx(new_network(seed)), contract, rows)
    files = {path.name: RegistryFile(**run.client.upload(path).model_dump()) for path in folder.iterdir()}
    return run.client.register_version(run.workload.model, VersionCreate(files=files))


def make_suite(run: RunSession) -> SuiteItem:
    params = {"suite": "field", "kind": "field", "scenarios": SIZE, "seed": 3}
    job = run.run_job("scenarios", run.workload.spec.commands.scenarios, params, {})
    ref = (job.outputs or {})["suite/suite.json"]
    return run.client.create_suite(SuiteCreate(model=run.workload.model, file=FileRef(**ref.model_dump())))


def go_round(live: Live, home: Path) -> None:
    client = live.client(Role.ADMIN)
    add_workload(client, "warehouse_amr", simulated=True)
    run = RunSession(client, find_workload("warehouse_amr"), Clusters([LocalCluster(client, home)]), "run", 1, {})
    model = client.get_model(run.workload.model)
    wanted = {"title", "contract", "events", "exposure"}
    client.put_model(model.name, ModelPut.model_validate(model.model_dump(include=wanted) | {"gate": POLICY}))
    champion, candidate = register(run, home / "b1", 5), register(run, home / "b2", 7)
    suite = make_suite(run)
    for version in (champion, candidate):
        asked = EvaluationCreate(content_digest=version.content_digest, suite=suite.digest)
        stages.simulate(run, suite, [(client.create_evaluation(asked), version, (0, SIZE))])
    sides = {"candidate": candidate.content_digest, "champion": champion.content_digest}
    gate = client.ask_gate(GateCreate(model=run.workload.model, suites=[suite.digest], **sides))
    flips = {flip.scenario for flip in gate.flips}
    assert flips
    assert show_flips(run, candidate, champion, gate, [suite]) == Shown(min(len(flips), 6))
    found = client.list_replays(gate.id)
    assert {item.scenario for item in found} <= flips
    assert [item.agrees for item in found] == [True] * (2 * min(len(flips), 6))
    assert all(" after " in item.outcome for item in found)
    run.clusters.close()
    client.close()


async def test_people_see_what_the_gate_judged(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # jobs run in folders of their own, and are to run this very code
    async with serve(database_url, tmp_path / "home") as live:
        await asyncio.to_thread(go_round, live, tmp_path)
