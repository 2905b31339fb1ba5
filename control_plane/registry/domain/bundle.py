"""Is a bundle what its model's contract says? Checked before a version exists, on bytes, without running its code.

The graph's inputs and outputs must match the contract; the golden vectors must match it too, and the graph, run by
ONNX's own reference evaluator where it is small enough, must reproduce them.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from agents.protocol.v1 import strict_json
from agents.protocol.v1.contract import Contract
from control_plane.registry.domain.manifests import MEDIA_TYPES

MAX_EVALUATED_BYTES = 16 << 20
DTYPES = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "bool": 9, "float16": 10}


class BundleError(ValueError):
    """The bundle must not be registered; the message says why."""


def check_bundle(contract: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """Check every file; return {"opset", "parameters", "golden_error"} for the version's card.

    `contract` is the model's {"inputs": [...], "outputs": [...], "golden": {"rtol", "atol"}}.
    """
    _check_names(files)
    _check_contract_file(contract, files["contract.json"])
    model = _load_graph(files["model.onnx"])
    _check_tensors("input", contract["inputs"], model.graph.input, {i.name for i in model.graph.initializer})
    _check_tensors("output", contract["outputs"], model.graph.output, set())
    golden = _load_golden(contract, files["golden.safetensors"])
    parameters = sum(int(np.prod(i.dims)) for i in model.graph.initializer)
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    return {"opset": opset, "parameters": parameters, "golden_error": _replay(contract, files["model.onnx"], golden)}


def _check_names(files: Mapping[str, bytes]) -> None:
    if set(files) != set(MEDIA_TYPES):
        raise BundleError(f"a bundle is exactly {', '.join(sorted(MEDIA_TYPES))}, not {', '.join(sorted(files))}")
    for path, data in files.items():
        if data[:2] == b"PK" or (data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05"):
            raise BundleError(f"{path} is a pickle or an archive; only ONNX, safetensors and JSON are taken")


def _check_contract_file(contract: Mapping[str, Any], data: bytes) -> None:
    try:
        held = strict_json(data, 1 << 20)
    except ValueError as error:
        raise BundleError(f"contract.json: {error}") from error
    try:
        Contract.model_validate(held)  # what every device reads; one that it cannot read would be refused there
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise BundleError(f"contract.json: {'.'.join(map(str, wrong['loc'])) or 'it'}: {wrong['msg']}") from error
    for part in ("inputs", "outputs", "golden"):
        if json.dumps(held.get(part), sort_keys=True) != json.dumps(contract.get(part), sort_keys=True):
            raise BundleError(f"contract.json says other {part} than the registered model")


def _load_graph(data: bytes) -> Any:
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:
        raise BundleError(f"model.onnx is not a sound ONNX model: {str(error)[:300]}") from error
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in _tensors(model)):
        raise BundleError("model.onnx keeps weights outside itself; bundle them")
    return model


def _tensors(message: Any) -> Iterator[Any]:
    """Give every tensor of a model, wherever it stands: initialisers, attributes, branches, functions."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in [value] if hasattr(value, "ListFields") else value:
            if isinstance(item, onnx.TensorProto):
                yield item
            else:
                yield from _tensors(item)


def _check_tensors(side: str, wanted: Any, given: Any, initializers: set[str]) -> None:
    found = {t.name: t.type.tensor_type for t in given if t.name not in initializers}
    names = [t["name"] for t in wanted]
    if sorted(found) != sorted(names):
        raise BundleError(f"the graph's {side}s are {sorted(found)}, the contract says {sorted(names)}")
    for tensor in wanted:
        _check_tensor(side, tensor, found[tensor["name"]])


def _check_tensor(side: str, tensor: Mapping[str, Any], given: Any) -> None:
    if given.elem_type != DTYPES[tensor["dtype"]]:
        raise BundleError(f"{side} {tensor['name']} has another dtype than the contract's {tensor['dtype']}")
    dims = [d.dim_value if d.HasField("dim_value") else "N" for d in given.shape.dim]
    wanted = list(tensor["shape"])
    if len(dims) != len(wanted) or any(w not in ("N", d) for w, d in zip(wanted, dims, strict=True)):
        raise BundleError(f"{side} {tensor['name']} has shape {dims}, the contract says {wanted}")


def _load_golden(contract: Mapping[str, Any], data: bytes) -> dict[str, Any]:
    try:
        golden: dict[str, Any] = load_safetensors(data)
    except (SafetensorError, ValueError) as error:
        raise BundleError(f"golden.safetensors cannot be read: {error}") from error
    for side in ("input", "output"):
        for tensor in contract[f"{side}s"]:
            _check_golden(golden.get(f"{side}.{tensor['name']}"), side, tensor)
    return golden


def _check_golden(value: Any, side: str, tensor: Mapping[str, Any]) -> None:
    name = f"{side}.{tensor['name']}"
    if value is None:
        raise BundleError(f"golden.safetensors lacks {name}")
    rows = value.shape[0] if value.ndim else 0
    shape = [w if w != "N" else rows for w in tensor["shape"]]
    if list(value.shape) != shape or str(value.dtype) != tensor["dtype"] or rows < 1:
        raise BundleError(f"golden {name} is {value.dtype}{list(value.shape)}, not {tensor['dtype']}{tensor['shape']}")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise BundleError(f"golden {name} holds NaN or infinities")


def _replay(contract: Mapping[str, Any], graph: bytes, golden: Mapping[str, Any]) -> float | None:
    """Run the graph on the golden inputs; return the largest difference, or None where it is too large to run here."""
    if len(graph) > MAX_EVALUATED_BYTES:
        return None
    feeds = {t["name"]: golden[f"input.{t['name']}"] for t in contract["inputs"]}
    names = [t["name"] for t in contract["outputs"]]
    try:
        outputs = ReferenceEvaluator(onnx.load_model_from_string(graph)).run(names, feeds)
    except Exception as error:
        raise BundleError(f"model.onnx does not run on its golden inputs: {str(error)[:300]}") from error
    worst = 0.0
    for name, output in zip(names, outputs, strict=True):
        wanted = golden[f"output.{name}"]
        if output.shape != wanted.shape or not np.allclose(output, wanted, **contract["golden"]):
            raise BundleError(f"golden output {name} is not what model.onnx gives for the golden inputs")
        worst = max(worst, float(np.max(np.abs(output.astype(np.float64) - wanted.astype(np.float64)), initial=0.0)))
    return worst
