"""A bundle opened in ONNX Runtime: only if files, graph and contract agree, and only on the provider asked for."""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from agents.inference.bundle import check_files
from agents.inference.contract import NotQualifiedError, read_contract
from agents.protocol.v1 import TensorSpec

Array = NDArray[Any]
CPU: Final = "CPUExecutionProvider"
_ORT_TYPES: Final = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(uint8)": "uint8", "tensor(bool)": "bool",
}  # fmt: skip
_PROFILE_BYTES: Final = 256 << 20


class Session:
    """A loaded bundle. One thread: a robot's other work owns the other cores.

    `providers` in order of preference, the first is the one meant; CPU may stand behind it for what the first cannot.

    Raises:
        NotQualifiedError: files, graph and contract do not agree.
    """

    def __init__(
        self, bundle: Path, providers: tuple[str | tuple[str, dict[str, str]], ...] = (CPU,), *, profiled: bool = False
    ) -> None:
        check_files(bundle)
        self.contract = read_contract(bundle)
        self._wanted = _name(providers[0])
        self._profiles: tempfile.TemporaryDirectory[str] | None = None
        missing = {_name(each) for each in providers} - set(ort.get_available_providers())
        if missing:
            raise NotQualifiedError(f"execution provider {', '.join(sorted(missing))} is not available here")
        self._names = [spec.name for spec in self.contract.outputs]
        if profiled:
            self._profiles = tempfile.TemporaryDirectory(prefix="fleetloop-")
        try:
            self._session = self._opened(bundle / "model.onnx", list(providers))
            self._check()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._profiles is not None:
            self._profiles.cleanup()
            self._profiles = None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))
        except Exception as error:  # onnxruntime raises types of its own that share no base
            raise NotQualifiedError(f"the model does not run: {str(error)[:200]}") from error

    def nodes_by_provider(self) -> Counter[str]:
        """Return where the operators of the runs so far really ran, and stop looking.

        The session's list of providers does not tell: it names whom it would have asked, not who answered.
        """
        if self._profiles is None:
            raise ValueError("the session was not opened with `profiled`")
        path = Path(self._session.end_profiling())
        if path.stat().st_size > _PROFILE_BYTES:
            raise NotQualifiedError("the profile of the golden run is too large to be read")
        events = json.loads(path.read_bytes())
        self.close()
        ran = {
            (event["name"], event["args"]["provider"])
            for event in events
            if event.get("cat") == "Node" and event.get("args", {}).get("provider")
        }
        return Counter(provider for _, provider in ran)

    def _check(self) -> None:
        if self._session.get_providers()[0] != self._wanted:
            raise NotQualifiedError(f"asked for {self._wanted}, got {self._session.get_providers()[0]}")
        _check_side("input", self._session.get_inputs(), self.contract.inputs)
        _check_side("output", self._session.get_outputs(), self.contract.outputs)

    def _opened(self, path: Path, providers: list[Any]) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if self._profiles is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._profiles.name) / "run")
        try:
            return ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime raises types of its own that share no base
            raise NotQualifiedError(f"the model does not load: {str(error)[:200]}") from error


def _name(provider: str | tuple[str, dict[str, str]]) -> str:
    return provider if isinstance(provider, str) else provider[0]


def _check_side(side: str, found: list[Any], declared: tuple[TensorSpec, ...]) -> None:
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


def fits(value: Array, spec: TensorSpec) -> bool:
    """Say whether an array is what a contract declares, for any number of rows."""
    return (
        str(value.dtype) == spec.dtype
        and len(value.shape) == len(spec.shape)
        and all(wanted in ("N", size) for wanted, size in zip(spec.shape, value.shape, strict=True))
    )


def finite(value: Array) -> bool:
    return bool(np.all(np.isfinite(value)))
