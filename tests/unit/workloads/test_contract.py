import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

import flows.workloads
from control_plane.evaluation.domain import parse_policy
from flows.workloads.recorded_traffic import policy as traffic_policy
from flows.workloads.recorded_traffic import relabel as traffic_relabel
from flows.workloads.recorded_traffic import train as traffic_train
from flows.workloads.warehouse_amr import policy as amr_policy
from flows.workloads.warehouse_amr import relabel as amr_relabel
from flows.workloads.warehouse_amr import scenarios as amr_scenarios
from flows.workloads.warehouse_amr import train as amr_train

ROOT = Path(flows.workloads.__path__[0])
NAMES = ("warehouse_amr", "recorded_traffic")
PLANS = {
    "warehouse_amr": {
        "pretrain": amr_train.Pretraining,
        "train": amr_train.Finetuning,
        "relabel": amr_relabel.Relabelling,
    },
    "recorded_traffic": {
        "pretrain": traffic_train.Pretraining,
        "train": traffic_train.Finetuning,
        "relabel": traffic_relabel.Relabelling,
    },
}
MODELS = {"warehouse_amr": amr_policy, "recorded_traffic": traffic_policy}


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name / "workload.yaml").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_the_yaml_has_what_the_contract_asks_for(name: str) -> None:
    body = load(name)
    assert body["schema"] == "fleetloop.workload/v1"
    assert body["name"] == name
    assert set(body["commands"]) - {"replay"} == {"train", "simulate", "relabel", "scenarios"}
    kinds = {suite["kind"] for suite in body["suites"].values()}
    assert kinds - {"reproduction"} == {"nominal", "regression", "field"}
    parse_policy(body["gate"])
    assert body["exposure"] in ("distance_m", "duration_s")
    assert {event["severity"] for event in body["events"].values()} <= {"gravest", "grave", "minor"}
    assert isinstance(body["data_required"], bool)
    assert body["sites"]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_a_module_that_exists(name: str) -> None:
    body = load(name)
    for command in [*body["commands"].values(), body["field"]]:
        python, flag, module, *_ = command["run"]
        assert (python, flag) == ("python", "-m")
        assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("name", NAMES)
def test_the_gate_speaks_of_suites_there_are(name: str) -> None:
    body = load(name)
    assert {part["suite"] for part in body["gate"]["parts"]} <= set(body["suites"])


@pytest.mark.parametrize("name", NAMES)
def test_recipes_name_parameters_the_commands_know(name: str) -> None:
    recipes = load(name)["recipes"]
    assert "standard" in recipes
    for recipe in recipes.values():
        assert recipe["description"]
        for part, values in recipe.items():
            if part != "description":
                known = {field.name for field in dataclasses.fields(PLANS[name][part])}
                assert set(values) <= known


@pytest.mark.parametrize("name", NAMES)
def test_the_model_takes_and_gives_what_its_contract_says(name: str) -> None:
    contract, module = load(name)["model"], MODELS[name]
    model = onnx.load_model_from_string(module.to_onnx(module.new_network(1)))
    for said, found in ((contract["inputs"], model.graph.input), (contract["outputs"], model.graph.output)):
        shapes = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in found
        }
        assert shapes == {value["name"]: value["shape"] for value in said}


def test_onnx_and_training_form_agree() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    network = amr_policy.new_network(2)
    scan, vec = rng.random((5, 3, 60), np.float32), rng.standard_normal((5, 14), np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(scan), torch.from_numpy(vec)).numpy()
    np.testing.assert_allclose(amr_policy.runtime(network)(scan=scan, vec=vec), expected, atol=1e-5)


def test_the_same_network_is_the_same_file() -> None:
    assert amr_policy.to_onnx(amr_policy.new_network(2)) == amr_policy.to_onnx(amr_policy.new_network(2))


def test_devices_stand_where_missions_are_drawn_for() -> None:
    assert set(load("warehouse_amr")["sites"]) == set(amr_scenarios.SITES)


def test_workloads_import_neither_server_nor_prefect() -> None:
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        assert "control_plane" not in text.replace("the control plane", ""), path
        assert "prefect" not in text, path
        if path.name not in ("field.py", "fleet.py"):
            assert "agents." not in text, path
