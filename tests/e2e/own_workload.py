"""A stranger's workload: four commands in one plain script, no line of fleetloop in it."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

MODEL = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 2], "unit": "m"}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": ["N", 1], "unit": "m/s"}],
    "golden": {"rtol": 0.0001, "atol": 0.00001},
}


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def train(params: dict, out: Path) -> None:
    weights = np.random.default_rng(params["seed"]).normal(size=(2, 1)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (out / "model").mkdir(parents=True)
    onnx.save(model, out / "model" / "model.onnx")
    (out / "model" / "contract.json").write_text(json.dumps({"name": "own-model"} | MODEL))
    x = np.ones((3, 2), np.float32)
    save_file({"input.x": x, "output.y": x @ weights}, out / "model" / "golden.safetensors")
    (out / "checkpoint").mkdir()
    save_file({"w": weights}, out / "checkpoint" / "weights.safetensors")


def scenarios(params: dict, out: Path) -> None:
    listed = [
        {"id": f"s{n}", "seed": n, "cluster": f"s{n}", "tags": [], "params": {}} for n in range(params["scenarios"])
    ]
    suite = {
        "schema": "fleetloop.suite/v1",
        "workload": "own",
        "suite": params["suite"],
        "kind": params["kind"],
        "simulator": "own@1",
        "scenarios": listed,
    }
    (out / "suite").mkdir(parents=True)
    (out / "suite" / "suite.json").write_text(json.dumps(suite))


def simulate(params: dict, out: Path) -> None:
    suite = json.loads(Path("inputs/suite/suite.json").read_text())
    digest = hashlib.sha256(Path("inputs/model/model.onnx").read_bytes()).hexdigest()
    lines = []
    for scenario in suite["scenarios"][params["start"] : params["stop"]]:
        line = {
            "suite": suite["suite"],
            "scenario": scenario["id"],
            "seed": scenario["seed"],
            "cluster": scenario["cluster"],
            "model_sha256": digest,
            "simulator": suite["simulator"],
            "status": "ok",
            "metrics": {"incident": 0, "distance_m": 10.0, "duration_s": 5.0},
        }
        lines.append(line | {"evidence_sha256": hashlib.sha256(canonical(line)).hexdigest()})
    (out / "results").mkdir(parents=True)
    (out / "results" / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(json.dumps({"progress": 1.0, "note": "done"}))


if __name__ == "__main__":
    {"train": train, "scenarios": scenarios, "simulate": simulate}[sys.argv[1]](
        json.loads(Path("params.json").read_text()), Path("outputs")
    )
