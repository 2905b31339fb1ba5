"""ONNX files nobody should load, and some that take too much; each a bundle around it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save

from tests.agent.bundles import files

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])


def bundle(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


def model_of(nodes: list[Any], initializers: list[Any] | None = None, **more: Any) -> bytes:
    graph = helper.make_graph(nodes, "g", [X], [Y], initializers or [])
    opsets = [helper.make_opsetid(domain, version) for domain, version in more.pop("opsets", {"": 17}).items()]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, **more)
    model.ir_version = 8
    data: bytes = model.SerializeToString()
    return data


def with_model(data: bytes, **more: bytes) -> dict[str, bytes]:
    return {**files(), "model.onnx": data, **more}


def other_input() -> bytes:
    """A good model whose input has a name of its own."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["z"], ["y"])],
        "g",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 3])],
        [Y],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    data: bytes = model.SerializeToString()
    return data


def foreign(domain: str = "evil", operator: str = "Evil") -> bytes:
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    return model_of([node], opsets={"": 17, domain: 1})


def hidden_foreign() -> bytes:
    """An operator of an unknown domain in the branch of an If."""
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, ["N", 3])
    inner = helper.make_node("Evil", ["x"], ["b"], domain="evil")
    branch = helper.make_graph([inner], "then", [], [out])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "else", [], [out])
    test = helper.make_tensor("t", TensorProto.BOOL, [], [True])
    return model_of([helper.make_node("If", ["t"], ["y"], then_branch=branch, else_branch=other)], [test])


def own_function() -> bytes:
    function = helper.make_function(
        "", "Id", ["a"], ["b"], [helper.make_node("Identity", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    return model_of([helper.make_node("Identity", ["x"], ["y"])], functions=[function])


def external(location: str, offset: int = 0, length: int = 12) -> bytes:
    """Weights that are said to be in another file."""
    weights = TensorProto(name="k", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        weights.external_data.add(key=key, value=value)
    return model_of([helper.make_node("Mul", ["x", "k"], ["y"])], [weights])


def shape_bomb(elements: int = 40_000_000_000) -> bytes:
    """A few bytes that ask for as many floats."""
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["x", "sum"], ["y"]),
    ]
    return model_of(nodes, [helper.make_tensor("s", TensorProto.INT64, [1], [elements])])


def loop_bomb() -> bytes:
    """A loop that goes on for years."""
    end = helper.make_tensor_value_info("end", TensorProto.BOOL, [])
    kept = helper.make_tensor_value_info("kept", TensorProto.FLOAT, ["N", 3])
    begin = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, ["N", 3]),
    ]
    nodes = [helper.make_node("Identity", ["c"], ["end"]), helper.make_node("Sin", ["v"], ["kept"])]
    body = helper.make_graph(nodes, "body", begin, [end, kept])
    values = [
        helper.make_tensor("n", TensorProto.INT64, [], [1 << 50]),
        helper.make_tensor("t", TensorProto.BOOL, [], [True]),
    ]
    return model_of([helper.make_node("Loop", ["n", "t", "x"], ["y"], body=body)], values)


def safetensors_twice() -> bytes:
    """A tensor that stands twice in the header: one reader takes the first, another the last."""
    good = save({"input.x": np.zeros((1, 3), np.float32), "output.y": np.zeros((1, 3), np.float32)})
    size = int.from_bytes(good[:8], "little")
    header, data = good[8 : 8 + size].rstrip(), good[8 + size :]
    first = header[1 : header.index(b"}") + 1]
    twice = b"{" + first + b"," + header[1:]
    return len(twice).to_bytes(8, "little") + twice + data
