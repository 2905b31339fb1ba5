"""TensorRT's own program as a runtime: it builds the plan, runs one decision at a time, and says what it took.

Each run is a process of its own, so it is judged by the time the program reports for the decision, not by ours.
"""

import json
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from agents.inference.contract import NotQualifiedError, read_contract
from agents.inference.demands import Demands
from agents.inference.session import Array
from agents.protocol.v1 import TensorSpec

_JETPACK: Final = Path("/usr/src/tensorrt/bin/trtexec")
_OUTPUT_BYTES: Final = 256 << 20
_POLL_S: Final = 1.0


def find_trtexec() -> Path | None:
    found = shutil.which("trtexec")
    if found:
        return Path(found)
    return _JETPACK if os.access(_JETPACK, os.X_OK) else None


class Trtexec:
    """A plan that was built here, with the program that runs it."""

    single_rows = True

    def __init__(self, program: Path, demands: Demands, plan: Path, bundle: Path) -> None:
        self._program, self._demands, self._plan = program, demands, plan
        self._contract = read_contract(bundle)
        self._folder = tempfile.TemporaryDirectory(prefix="fleetloop-")

    def close(self) -> None:
        self._folder.cleanup()

    @staticmethod
    def build(program: Path, demands: Demands, bundle: Path, plan: Path, tell: Callable[[str, float], None]) -> None:
        """Build a plan; `tell` hears which share of the time allowed has gone.

        Raises:
            NotQualifiedError: it cannot be built, or not in `build_s`.
        """
        shapes = ",".join(f"{spec.name}:{'x'.join(str(each) for each in one_row(spec))}" for spec in
                          read_contract(bundle).inputs)  # fmt: skip
        options = [f"--onnx={bundle / 'model.onnx'}", f"--saveEngine={plan}", f"--shapes={shapes}", "--skipInference"]
        options += [f"--memPoolSize=workspace:{demands.workspace_mb}M"]
        options += ["--fp16"] * (demands.precision == "float16") + ["--int8"] * (demands.precision == "int8")
        options += ["--useDLACore=0", "--allowGPUFallback"] * demands.dla
        _finished([str(program), *options], demands.build_s, tell)
        if not plan.is_file():
            raise NotQualifiedError("trtexec ended well and left no plan")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one decision; shapes and dtypes are the contract's."""
        outputs, _ = self._run(inputs, ["--iterations=1", "--duration=0", "--warmUp=0"])
        return outputs

    def timed(self, inputs: Mapping[str, Array], duration_s: float) -> list[float]:
        """Return the milliseconds of decisions made for a while."""
        _, times = self._run(inputs, [f"--duration={math.ceil(duration_s)}", "--warmUp=200", "--avgRuns=1"])
        return [float(each["latencyMs"]) for each in times]

    def elsewhere(self) -> int:
        # A plan has no operator outside TensorRT: one that cannot be in it fails the build.
        return 0

    def _run(self, inputs: Mapping[str, Array], options: list[str]) -> tuple[dict[str, Array], list[Any]]:
        folder = Path(self._folder.name)
        for name, value in inputs.items():
            np.ascontiguousarray(value).tofile(folder / f"{name}.in")
        loads = ",".join(f"{name}:{folder / name}.in" for name in inputs)
        outputs, times = folder / "outputs.json", folder / "times.json"
        command = [str(self._program), f"--loadEngine={self._plan}", f"--loadInputs={loads}"]
        command += [f"--exportOutput={outputs}", f"--exportTimes={times}", *options]
        _finished(command, self._demands.wall_s, lambda _stage, _share: None)
        return self._read(outputs), _json(times)

    def _read(self, path: Path) -> dict[str, Array]:
        found = {each["name"]: each["values"] for each in _json(path)}
        try:
            return {
                spec.name: np.asarray(found[spec.name], dtype=spec.dtype).reshape(one_row(spec))
                for spec in self._contract.outputs
            }
        except (KeyError, ValueError) as error:
            raise NotQualifiedError(f"trtexec's outputs are not those of the contract: {error}") from error


def one_row(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(1 if size == "N" else size for size in spec.shape)


def _json(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > _OUTPUT_BYTES:
            raise NotQualifiedError(f"trtexec wrote more than {_OUTPUT_BYTES} bytes")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise NotQualifiedError(f"trtexec left no {path.name}: {error}") from error
    if not isinstance(value, list):
        raise NotQualifiedError(f"{path.name} is no list")
    return value


def _finished(command: list[str], limit_s: float, tell: Callable[[str, float], None]) -> None:
    """Run a program to its end; one that outlives its time is ended."""
    began_s = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while time.monotonic() - began_s < limit_s:
                try:
                    process.wait(min(_POLL_S, limit_s))
                    break
                except subprocess.TimeoutExpired:
                    tell("building_engine", (time.monotonic() - began_s) / limit_s)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(max(0, log.tell() - 300))
        last = log.read(300).decode("utf-8", "replace").strip()[-200:]
    if process.returncode == -9:
        raise NotQualifiedError(f"trtexec did not end in {limit_s:.0f} s")
    if process.returncode != 0:
        raise NotQualifiedError(f"trtexec failed: {last}")
