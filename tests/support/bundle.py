"""A tiny real bundle: an ONNX graph that multiplies, its contract, its golden vectors."""

import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save

MODEL: dict[str, Any] = {
    "title": "Times",
    "contract": {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 3], "unit": "1"}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["N", 3], "unit": "1"}],
        "golden": {"rtol": 1e-4, "atol": 1e-5},
    },
    "events": {
        "collision": {"severity": "gravest", "incident": True},
        "near_miss": {"severity": "grave", "incident": True},
        "stuck": {"severity": "minor", "incident": False},
    },
    "exposure": "distance_m",
    "gate": {
        "alpha": 0.05,
        "metric": "incident",
        "parts": [{"suite": "nominal", "rule": "non_inferior", "margin": 0.2}],
        "first": [{"suite": "nominal", "rule": "absolute_at_most", "metric": "incident", "bound": 0.5}],
    },
}


def graph(scale: float = 2.0, *, name: str = "x", kind: int = TensorProto.FLOAT, width: int = 3) -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node("Mul", [name, "k"], ["y"])],
        "times",
        [helper.make_tensor_value_info(name, kind, ["N", width])],
        [helper.make_tensor_value_info("y", kind, ["N", width])],
        [helper.make_tensor("k", kind, [1], [scale])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def golden(scale: float = 2.0, **changes: Any) -> bytes:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    return save({"input.x": x, "output.y": x * np.float32(scale)} | changes)


def bundle(scale: float = 2.0) -> dict[str, bytes]:
    return {
        "model.onnx": graph(scale).SerializeToString(),
        "contract.json": json.dumps({"name": "times", **MODEL["contract"]}).encode(),
        "golden.safetensors": golden(scale),
    }
