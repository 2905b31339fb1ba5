"""The port to what runs a model, and which one a device gets. A runtime that is asked for and absent is an error.

| runtime | what it is |
|---|---|
| cpu | ONNX Runtime on the processor |
| cuda | ONNX Runtime's CUDA provider |
| tensorrt | ONNX Runtime's TensorRT provider; its engines are built here and kept by key |
| trtexec | TensorRT's own program, where JetPack has no ONNX Runtime for the GPU |
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import onnxruntime as ort

from agents.inference.contract import NotQualifiedError, read_contract
from agents.inference.demands import Demands
from agents.inference.engines import EngineCache, EngineKey, engine_key, file_sha256
from agents.inference.session import CPU, Array, Session
from agents.inference.trtexec import Trtexec, find_trtexec
from agents.protocol.v1 import TensorSpec

CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"
Tell = Callable[[str, float], None]


class Runner(Protocol):
    """A model that is loaded. With `single_rows` it takes one decision at a time: its engine has no other shape."""

    @property
    def single_rows(self) -> bool: ...
    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...
    def elsewhere(self) -> int:
        """Return how many operators of the runs so far ran elsewhere than asked for."""


class Runtime(Protocol):
    @property
    def name(self) -> str: ...

    def open(self, bundle: Path, tell: Tell) -> AbstractContextManager[Runner]:
        """Load a bundle, and build its engine if there is none; `tell` hears of the progress.

        Raises:
            NotQualifiedError: it does not load or cannot be built here.
        """


@dataclass(frozen=True)
class Place:
    """Where a model is to run: what the machine is made of, and where its engines are kept (None: nowhere)."""

    machine: Mapping[str, object]
    engines: EngineCache | None = None


class _OrtRunner:
    def __init__(self, session: Session, provider: str, *, single_rows: bool = False) -> None:
        self._session, self._provider, self.single_rows = session, provider, single_rows

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self._session.run(inputs)

    def close(self) -> None:
        self._session.close()

    def elsewhere(self) -> int:
        return sum(count for name, count in self._session.nodes_by_provider().items() if name != self._provider)


@dataclass(frozen=True)
class OrtRuntime:
    provider: str = CPU

    @property
    def name(self) -> str:
        return self.provider

    def open(self, bundle: Path, tell: Tell) -> AbstractContextManager[Runner]:
        tell("loading", 0.0)
        behind = () if self.provider == CPU else (CPU,)
        return closing(_OrtRunner(Session(bundle, (self.provider, *behind), profiled=True), self.provider))


@dataclass(frozen=True)
class TensorRtRuntime:
    """The provider builds while the session opens and at its first run; both happen before anything is timed."""

    demands: Demands
    place: Place
    name: str = TENSORRT

    def open(self, bundle: Path, tell: Tell) -> AbstractContextManager[Runner]:
        key = key_of(bundle, self.demands, self.place.machine)
        cache = self.place.engines
        if key is None or cache is None:
            tell("building_engine", 0.0)
            return closing(self._runner(bundle, {}))
        folder = cache.built(key)
        if folder is None:
            tell("building_engine", 0.0)
            self._runner(bundle, {**_kept_in(cache.building(key)), "trt_timing_cache_enable": "True"}).close()
            folder = cache.keep(key)
        tell("loading", 1.0)
        return closing(self._runner(bundle, _kept_in(folder)))

    def _runner(self, bundle: Path, more: Mapping[str, str]) -> _OrtRunner:
        shapes = ",".join(_one_row(spec) for spec in read_contract(bundle).inputs)
        options = {
            # With its shapes said, the engine is built when the session opens and not at some later decision.
            **{f"trt_profile_{which}_shapes": shapes for which in ("min", "opt", "max")},
            "trt_max_workspace_size": str(self.demands.workspace_mb << 20),
            "trt_fp16_enable": str(self.demands.precision == "float16"),
            "trt_int8_enable": str(self.demands.precision == "int8"),
            "trt_dla_enable": str(self.demands.dla),
            **more,
        }
        providers = ((TENSORRT, options), CUDA, CPU) if CUDA in ort.get_available_providers() else (
            (TENSORRT, options), CPU,
        )  # fmt: skip
        return _OrtRunner(Session(bundle, providers, profiled=True), TENSORRT, single_rows=True)


@dataclass(frozen=True)
class TrtexecRuntime:
    program: Path
    demands: Demands
    place: Place
    name: str = "trtexec"

    def open(self, bundle: Path, tell: Tell) -> AbstractContextManager[Runner]:
        return closing(Trtexec(self.program, self.demands, self._engine(bundle, tell), bundle))

    def _engine(self, bundle: Path, tell: Tell) -> Path:
        key, cache = key_of(bundle, self.demands, self.place.machine), self.place.engines
        if key is None or cache is None:
            raise NotQualifiedError("trtexec needs to know the machine and a place for its engine")
        folder = cache.built(key)
        if folder is None:
            tell("building_engine", 0.0)
            Trtexec.build(self.program, self.demands, bundle, cache.building(key) / "model.plan", tell)
            folder = cache.keep(key)
        return folder / "model.plan"


def key_of(bundle: Path, demands: Demands, machine: Mapping[str, object]) -> EngineKey | None:
    return engine_key(
        file_sha256(bundle / "model.onnx"),
        machine,
        precision=demands.precision,
        shapes="N=1",
        workspace_mb=demands.workspace_mb,
        dla=demands.dla,
    )


def runtime_for(demands: Demands, place: Place) -> Runtime:
    """Return the runtime a device asks for; auto is the fastest that is here.

    Raises:
        NotQualifiedError: it is not here.
    """
    available, program = ort.get_available_providers(), find_trtexec()
    if demands.runtime == "tensorrt" or (demands.runtime == "auto" and TENSORRT in available):
        return TensorRtRuntime(demands, place)
    if demands.runtime == "cuda" or (demands.runtime == "auto" and CUDA in available):
        return OrtRuntime(CUDA)
    if demands.runtime == "trtexec":
        if program is None:
            raise NotQualifiedError("trtexec is not installed here")
        return TrtexecRuntime(program, demands, place)
    return OrtRuntime(CPU)


def _kept_in(folder: Path) -> dict[str, str]:
    return {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}


def _one_row(spec: TensorSpec) -> str:
    return f"{spec.name}:{'x'.join('1' if size == 'N' else str(size) for size in spec.shape)}"
