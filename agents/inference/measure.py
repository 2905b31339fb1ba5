"""What a bundle does on this device: golden vectors, where its operators run, and what a decision takes.

`tell` hears of each stage, so that whoever has an energy meter knows when to read it.
"""

import math
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import load_file

from agents.inference.bundle import check_files
from agents.inference.contract import NotQualifiedError, read_contract
from agents.inference.demands import Demands
from agents.inference.runtime import Place, Runner, Tell, runtime_for
from agents.inference.session import Array, finite, fits
from agents.inference.trtexec import Trtexec
from agents.protocol.v1 import TensorSpec
from agents.protocol.v1.contract import Contract, Golden

_WARM_RUNS: Final = 10
_LEAST_RUNS: Final = 20


def quiet(_stage: str, _value: float) -> None:
    """Tell nobody."""


def qualify(
    bundle: Path,
    demands: Demands | None = None,
    place: Place | None = None,
    tell: Tell = quiet,
    *,
    rest: bool = False,
) -> dict[str, float]:
    """Return what was measured; whether that is within a budget is for others to say.

    Raises:
        NotQualifiedError: golden vectors do not match, or operators do not run where they should.
    """
    asked = demands or Demands()
    before_mb, began_s = _peak_mb(), time.perf_counter()
    check_files(bundle)
    contract = read_contract(bundle)
    with runtime_for(asked, place or Place({})).open(bundle, tell) as runner:
        numbers = {"load_s": time.perf_counter() - began_s}
        inputs, expected = _read_golden(bundle / "golden.safetensors", contract)
        tell("golden", 0.0)
        actual = _run_golden(runner, inputs)
        numbers["max_abs_error"] = _compare(actual, expected, contract.golden, asked.precision)
        numbers["golden_rows"] = float(len(next(iter(inputs.values()))))
        numbers["nodes_elsewhere"] = float(_elsewhere(runner, asked))
        numbers |= _soaked(runner, inputs, asked, tell, rest=rest)
    numbers["memory_mb"] = max(0.0, _peak_mb() - before_mb)
    return numbers


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _elsewhere(runner: Runner, demands: Demands) -> int:
    elsewhere = runner.elsewhere()
    if elsewhere > demands.fallback_nodes_max:
        raise NotQualifiedError(
            f"{elsewhere} operators fell back to another execution provider; {demands.fallback_nodes_max} may"
        )
    return elsewhere


def _read_golden(path: Path, contract: Contract) -> tuple[dict[str, Array], dict[str, Array]]:
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
    if not fits(value, spec):
        raise NotQualifiedError(f"{name} is {value.dtype} {value.shape}, the contract says {spec.dtype} {spec.shape}")
    return value


def _run_golden(runner: Runner, inputs: Mapping[str, Array]) -> dict[str, Array]:
    if not runner.single_rows:
        return runner.run(inputs)
    rows = [runner.run(row(inputs, at)) for at in range(len(next(iter(inputs.values()))))]
    return {name: np.concatenate([each[name] for each in rows]) for name in rows[0]}


def row(inputs: Mapping[str, Array], at: int) -> dict[str, Array]:
    return {name: value[at : at + 1] for name, value in inputs.items()}


def _compare(actual: Mapping[str, Array], expected: Mapping[str, Array], golden: Golden, precision: str) -> float:
    """Return the largest absolute difference; refuse anything outside the tolerance and anything not finite."""
    largest = 0.0
    for name, wanted in expected.items():
        got, allowed = actual[name], golden.tolerance(str(wanted.dtype), precision)
        if got.shape != wanted.shape or got.dtype != wanted.dtype or not finite(got):
            raise NotQualifiedError(f"output {name} has another shape or values that are not finite")
        far = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
        largest = max(largest, float(far.max(initial=0.0)))
        if np.any(~(far <= allowed.atol + allowed.rtol * np.abs(wanted.astype(np.float64)))):
            raise NotQualifiedError(f"output {name} differs from the golden vectors by up to {far.max():.3g}")
    return largest


def _soaked(
    runner: Runner, inputs: Mapping[str, Array], demands: Demands, tell: Tell, *, rest: bool
) -> dict[str, float]:
    if rest:
        tell("rest", demands.rest_s)
        time.sleep(demands.rest_s)
    tell("soak", demands.soak_s)
    cpu_s, began_s = time.process_time(), time.monotonic()
    if isinstance(runner, Trtexec):
        timings = np.asarray(runner.timed(row(inputs, 0), demands.soak_s), dtype=np.float64)
    else:
        timings = _timed(lambda at: runner.run(row(inputs, at)), len(next(iter(inputs.values()))), demands)
    tell("soaked", float(len(timings)))
    if not len(timings) or not finite(timings):
        raise NotQualifiedError("no decision was timed")
    return {
        "latency_p50_ms": float(np.percentile(timings, 50)),
        "latency_p99_ms": float(np.percentile(timings, 99)),
        "latency_max_ms": float(timings.max()),
        "decisions": float(len(timings)),
        "soak_s": time.monotonic() - began_s,
        "cpu_ms_per_decision": (time.process_time() - cpu_s) * 1e3 / len(timings),
    }


def _timed(decide: Callable[[int], object], rows: int, demands: Demands) -> Array:
    """Return milliseconds per decision: one after the other at the rate asked for, or as fast as it goes below it."""
    for at in range(_WARM_RUNS):
        decide(at % rows)
    timings = np.zeros(max(_LEAST_RUNS, math.ceil(demands.soak_s * demands.rate_hz)), dtype=np.float32)
    began_s = time.monotonic()
    done = 0
    while done < len(timings) and (done < _LEAST_RUNS or time.monotonic() - began_s < demands.soak_s):
        due_s = began_s + done / demands.rate_hz - time.monotonic()
        if due_s > 0:
            time.sleep(due_s)
        start = time.perf_counter()
        decide(done % rows)
        timings[done] = (time.perf_counter() - start) * 1e3
        done += 1
    return timings[:done]
