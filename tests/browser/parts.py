"""Files a loop leaves behind, small but real: a bundle, a recording, lines of results."""

import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save as save_safetensors

from agents.protocol import v1 as wire
from tests.support.described import described

CONTRACT: dict[str, Any] = {
    "inputs": [
        {"name": "scan", "dtype": "float32", "shape": ["N", 8], "unit": "range / 8 m"},
    ],
    "outputs": [{"name": "cmd", "dtype": "float32", "shape": ["N", 2], "unit": "m/s, rad/s"}],
    "golden": {"rtol": 1e-4, "atol": 1e-5},
}
GATE = {
    "alpha": 0.05,
    "metric": "incident",
    "parts": [
        {"suite": "nominal", "rule": "non_inferior", "margin": 0.05},
        {"suite": "regression", "rule": "improves"},
        {"suite": "nominal", "rule": "mean_ratio_at_most", "metric": "duration_s", "bound": 1.1},
    ],
    "domain": {"site": ["hall", "annex", "cold_store"], "floor": ["dry", "wet"]},
}


def bundle(scale: float) -> dict[str, bytes]:
    weights = (np.linspace(-1, 1, 16).reshape(8, 2) * scale).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["scan", "w"], ["cmd"])],
        "policy",
        [helper.make_tensor_value_info("scan", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("cmd", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    scan = np.linspace(0, 1, 16).reshape(2, 8).astype(np.float32)
    golden = save_safetensors({"input.scan": scan, "output.cmd": scan @ weights})
    return {
        "model.onnx": model.SerializeToString(),
        "contract.json": json.dumps({"name": "warehouse-amr-drive"} | CONTRACT).encode(),
        "golden.safetensors": golden,
    }


def mcap(text: str) -> bytes:
    """Return a recording that says what it shows; `text` makes it another file than the next."""
    return described(salt=text)


def result(suite: str, i: int, count: int, model: str, *, fails: bool) -> str:
    name = suite.split("|", maxsplit=1)[0]
    plain = {
        "suite": name,
        "scenario": f"{name}-{i:04d}",
        "seed": i,
        "cluster": f"c{i % 150}",
        "model_sha256": model,
        "simulator": "mujoco-3.14/mjbatch-0.1.4",
        "status": "ok",
        "metrics": {"incident": float(fails), "duration_s": 20.0 + (i * 7 % 11) / 10, "reached": float(not fails)},
    }
    return json.dumps(plain | {"evidence_sha256": wire.digest_of(plain)})
