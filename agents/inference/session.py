"""One bundle opened and measured: does it do here what its golden vectors say, and how fast?

It loads ONNX and safetensors only, and refuses what its contract does not declare. No pickle, no custom operators.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from safetensors.numpy import load_file

from agents.protocol.v1 import TensorSpec, strict_json

Array = NDArray[Any]
_SUFFIXES: Final = {".onnx", ".json", ".safetensors"}
_CONTRACT_BYTES: Final = 1 << 20
_GOLDEN_BYTES: Final = 256 << 20
_WARM_RUNS: Final = 10
_TIMED_RUNS: Final = 200
_TIMED_S: Final = 1.0
_ORT_TYPES: Final = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(uint8)": "uint8", "tensor(bool)": "bool",
}  # fmt: skip


class NotQualifiedError(Exception):
    """The bundle does not do what it says; the message says what."""


class Golden(BaseModel):
    model_config = ConfigDict(frozen=True)
    rtol: float = Field(default=1e-4, ge=0, le=1, allow_inf_nan=False)
    atol: float = Field(default=1e-5, ge=0, le=1e3, allow_inf_nan=False)


class Budget(BaseModel):
    """What one decision may cost on this device; absent means: measured, not judged."""

    model_config = ConfigDict(frozen=True)
    latency_p50_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    latency_p99_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Contract(BaseModel):
    """`contract.json`: the `model` part of the workload."""

    model_config = ConfigDict(frozen=True)
    name: str = Field(max_length=100)
    inputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=32)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=32)
    golden: Golden = Golden()
    budget: Budget = Budget()


class Session:
    """A loaded bundle. One thread: a robot's other work owns the other cores.

    Raises:
        NotQualifiedError: files, graph and contract do not agree.
    """

    def __init__(self, bundle: Path, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> None:
        _check_files(bundle)
        self.contract = _read_contract(bundle / "contract.json")
        missing = set(providers) - set(ort.get_available_providers())
        if missing:
            raise NotQualifiedError(f"execution provider {', '.join(sorted(missing))} is not available here")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(str(bundle / "model.onnx"), options, providers=list(providers))
        except Exception as error:  # onnxruntime raises types of its own that share no base
            raise NotQualifiedError(f"the model does not load: {str(error)[:200]}") from error
        if self._session.get_providers()[0] != providers[0]:
            raise NotQualifiedError(f"asked for {providers[0]}, got {self._session.get_providers()[0]}")
        _check_graph("input", self._session.get_inputs(), self.contract.inputs)
        _check_graph("output", self._session.get_outputs(), self.contract.outputs)
        self._names = [spec.name for spec in self.contract.outputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


def qualify(bundle: Path) -> dict[str, float]:
    """Return what was measured on this device.

    Raises:
        NotQualifiedError: golden vectors do not match, or the budget is exceeded.
    """
    session = Session(bundle)
    inputs, expected = _read_golden(bundle / "golden.safetensors", session.contract)
    error = _compare(_run(session, inputs), expected, session.contract.golden)
    timings = _timed(session, {name: value[:1] for name, value in inputs.items()})
    numbers = {
        "max_abs_error": error,
        "golden_rows": float(len(next(iter(inputs.values())))),
        "latency_p50_ms": float(np.percentile(timings, 50)),
        "latency_p99_ms": float(np.percentile(timings, 99)),
    }
    _check_budget(session.contract.budget, numbers)
    return numbers


def _run(session: Session, inputs: Mapping[str, Array]) -> dict[str, Array]:
    try:
        return session.run(inputs)
    except Exception as error:  # onnxruntime raises types of its own that share no base
        raise NotQualifiedError(f"the model does not run: {str(error)[:200]}") from error


def _check_files(bundle: Path) -> None:
    names = {path.name for path in bundle.iterdir()} - {".release.json"}
    strange = sorted(name for name in names if Path(name).suffix not in _SUFFIXES)
    if strange:
        raise NotQualifiedError(f"only .onnx, .safetensors and .json are loaded, not {strange[0]}")
    for needed in ("model.onnx", "contract.json", "golden.safetensors"):
        if needed not in names:
            raise NotQualifiedError(f"the bundle has no {needed}")


def _read_contract(path: Path) -> Contract:
    try:
        return Contract.model_validate(strict_json(path.read_bytes(), _CONTRACT_BYTES))
    except ValueError as error:
        raise NotQualifiedError(f"contract.json: {str(error)[:200]}") from error


def _check_graph(side: str, found: list[Any], declared: tuple[TensorSpec, ...]) -> None:
    by_name = {each.name: each for each in found}
    if set(by_name) != {spec.name for spec in declared}:
        raise NotQualifiedError(f"the model's {side}s are {sorted(by_name)}, not those of the contract")
    for spec in declared:
        actual = by_name[spec.name]
        if _ORT_TYPES.get(actual.type) != spec.dtype:
            raise NotQualifiedError(f"{side} {spec.name} is {actual.type}, the contract says {spec.dtype}")
        pairs = list(zip(actual.shape, spec.shape, strict=False))
        if len(actual.shape) != len(spec.shape) or any(isinstance(size, int) and size != said for size, said in pairs):
            raise NotQualifiedError(f"{side} {spec.name} has shape {actual.shape}, the contract says {spec.shape}")


def _read_golden(path: Path, contract: Contract) -> tuple[dict[str, Array], dict[str, Array]]:
    if path.stat().st_size > _GOLDEN_BYTES:
        raise NotQualifiedError("golden.safetensors is too large")
    try:
        tensors: dict[str, Array] = load_file(path)
    except Exception as error:  # safetensors raises a type of its own
        raise NotQualifiedError(f"golden.safetensors: {str(error)[:200]}") from error
    inputs = {spec.name: _golden_tensor(tensors, f"input.{spec.name}", spec) for spec in contract.inputs}
    expected = {spec.name: _golden_tensor(tensors, f"output.{spec.name}", spec) for spec in contract.outputs}
    rows = {len(value) for value in (*inputs.values(), *expected.values())}
    if len(rows) != 1 or rows == {0}:
        raise NotQualifiedError("golden vectors need the same number of rows, at least one")
    return inputs, expected


def _golden_tensor(tensors: Mapping[str, Array], name: str, spec: TensorSpec) -> Array:
    value = tensors.get(name)
    if value is None:
        raise NotQualifiedError(f"golden.safetensors has no {name}")
    fits = len(value.shape) == len(spec.shape) and all(
        wanted in ("N", size) for wanted, size in zip(spec.shape, value.shape, strict=True)
    )
    if str(value.dtype) != spec.dtype or not fits:
        raise NotQualifiedError(f"{name} is {value.dtype} {value.shape}, the contract says {spec.dtype} {spec.shape}")
    return value


def _compare(actual: Mapping[str, Array], expected: Mapping[str, Array], golden: Golden) -> float:
    """Return the largest absolute difference; refuse anything outside the tolerance and anything not finite."""
    largest = 0.0
    for name, wanted in expected.items():
        got = actual[name]
        if got.shape != wanted.shape or not np.all(np.isfinite(got)):
            raise NotQualifiedError(f"output {name} has another shape or values that are not finite")
        difference = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
        largest = max(largest, float(difference.max(initial=0.0)))
        if np.any(~(difference <= golden.atol + golden.rtol * np.abs(wanted.astype(np.float64)))):
            raise NotQualifiedError(f"output {name} differs from the golden vectors by up to {difference.max():.3g}")
    return largest


def _timed(session: Session, inputs: Mapping[str, Array]) -> list[float]:
    """Return milliseconds per decision of one row, after warming up."""
    for _ in range(_WARM_RUNS):
        session.run(inputs)
    timings: list[float] = []
    until = time.monotonic() + _TIMED_S
    while len(timings) < _TIMED_RUNS and (time.monotonic() < until or not timings):
        start = time.perf_counter()
        session.run(inputs)
        timings.append((time.perf_counter() - start) * 1e3)
    return timings


def _check_budget(budget: Budget, numbers: Mapping[str, float]) -> None:
    for name in ("latency_p50_ms", "latency_p99_ms"):
        allowed = getattr(budget, name)
        if allowed is not None and numbers[name] > allowed:
            raise NotQualifiedError(f"{name} is {numbers[name]:.3f} ms, the budget is {allowed:.3f} ms")
