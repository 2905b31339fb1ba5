"""Owns the model bundle: model.onnx, contract.json, golden.safetensors; writing it and running it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from safetensors.numpy import save_file

from flows.workloads.kit.types import Array, Json, WorkloadError

CHUNK_ROWS = 32  # always this many rows a call, padded: some CPUs' kernels differ in the last bit by batch size
GOLDEN_ROWS = 8


class Policy:
    """A model on ONNX Runtime with one thread. The same row gives the same bits whatever stands beside it."""

    def __init__(self, model: bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.sha256 = hashlib.sha256(model).hexdigest()
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions have no common base of their own
            raise WorkloadError(f"model.onnx cannot be loaded: {error}") from error
        self._inputs = [value.name for value in self._session.get_inputs()]

    @classmethod
    def load(cls, bundle: Path) -> "Policy":
        try:
            return cls((bundle / "model.onnx").read_bytes())
        except OSError as error:
            raise WorkloadError(f"{bundle}: model.onnx cannot be read: {error}") from error

    def __call__(self, **inputs: Array) -> Array:
        rows = len(inputs[self._inputs[0]])
        parts = [
            self._chunk(inputs, start, min(start + CHUNK_ROWS, rows)) for start in range(0, max(rows, 1), CHUNK_ROWS)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _chunk(self, inputs: Mapping[str, Array], start: int, stop: int) -> Array:
        feed = {}
        for name in self._inputs:
            part = inputs[name][start:stop]
            padded = np.zeros((CHUNK_ROWS, *part.shape[1:]), np.float32)
            padded[: stop - start] = part
            feed[name] = padded
        output: Array = self._session.run(None, feed)[0]
        return output[: stop - start]


def write_bundle(folder: Path, model: bytes, contract: Json, examples: Mapping[str, Array]) -> Policy:
    """Write a bundle whose golden vectors are this runtime's answers to a few real inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    (folder / "contract.json").write_text(json.dumps(contract, indent=1, sort_keys=True) + "\n")
    policy = Policy(model)
    rows = {name: _some(values) for name, values in examples.items()}
    golden = {f"input.{name}": values for name, values in rows.items()}
    golden[f"output.{contract['outputs'][0]['name']}"] = np.ascontiguousarray(policy(**rows))
    save_file(golden, folder / "golden.safetensors")
    return policy


def _some(values: Array) -> Array:
    rows = np.linspace(0, len(values) - 1, GOLDEN_ROWS).round().astype(np.int64)
    return np.ascontiguousarray(values[rows], np.float32)
