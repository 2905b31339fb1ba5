"""Owns a tiny ONNX builder.

The networks here are a dozen operators. Written node by node, the file is the same bytes on every machine (an exporter
writes its own stack traces into it), and a round of relabelling need not start an exporter.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flows.workloads.kit.types import Array

OPSET = 20
IR_VERSION = 10  # what the oldest onnxruntime we support reads


class Graph:
    """A chain of operators, each reading the last one's output unless told otherwise."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Array] = {}

    def constant(self, name: str, value: Array) -> str:
        self._constants[name] = value
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, np.asarray(self._weights[name], np.float32))

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        output = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def dense(self, source: str, layer: str) -> str:
        return self.add("Gemm", [source, self.weight(f"{layer}.weight"), self.weight(f"{layer}.bias")], transB=1)

    def convolve(self, source: str, layer: str, *, stride: int, pad: int) -> str:
        inputs = [source, self.weight(f"{layer}.weight"), self.weight(f"{layer}.bias")]
        return self.add("Conv", inputs, strides=[stride], pads=[pad, pad])

    def build(self, name: str, output: str, inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, int]) -> bytes:
        """Close the graph: its last value becomes the (single) named output; the first axis is the batch N."""
        (output_name, width), *_ = outputs.items()
        self._nodes.append(helper.make_node("Identity", [output], [output_name], name="output"))
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, ["N", *shape]) for key, shape in inputs.items()],
            [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["N", width])],
            [numpy_helper.from_array(value, key) for key, value in self._constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))
