"""Small model bundles for tests: a real ONNX graph, its contract and its golden vectors."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save

from agents.protocol.v1 import ReleaseOrder, canonical_json, digest_of, sha256_hex
from tests.agent.server import FleetServer


@dataclass(frozen=True)
class Built:
    order: ReleaseOrder
    content_digest: str


def files(
    scale: float = 2.0, golden_scale: float | None = None, contract: dict[str, Any] | None = None
) -> dict[str, bytes]:
    """Return a model that multiplies by `scale`; its golden vectors say `golden_scale`."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        "times",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor("k", TensorProto.FLOAT, [1], [scale])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    said = {
        "name": "times",
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 3], "unit": "1"}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["N", 3], "unit": "1"}],
        "golden": {"rtol": 1e-4, "atol": 1e-5},
        **(contract or {}),
    }
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    golden = {"input.x": x, "output.y": x * np.float32(scale if golden_scale is None else golden_scale)}
    return {
        "model.onnx": model.SerializeToString(),
        "contract.json": json.dumps(said).encode(),
        "golden.safetensors": save(golden),
    }


def release(server: FleetServer, counter: int, content: dict[str, bytes], **changes: Any) -> Built:
    """Publish a release on the server and return the order for it."""
    described = [
        {"path": path, "size_bytes": len(data), "sha256": server.put(data), "media_type": "x", "role": "model"}
        for path, data in content.items()
    ]
    manifest = {"schema": "fleetloop.content/v1", "model": "times", "files": described}
    said = {
        "schema": "fleetloop.release/v1",
        "model": "times",
        "version": counter,
        "counter": counter,
        "device_classes": ["test"],
        "content_digest": digest_of(manifest),
        "content": manifest,
        **changes,
    }
    data = canonical_json(said)
    server.put_release(data)
    order = ReleaseOrder(release_digest=sha256_hex(data), size_bytes=len(data), counter=counter, rollout_id="r-1")
    return Built(order, said["content_digest"])
