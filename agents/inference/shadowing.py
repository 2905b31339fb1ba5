"""A candidate beside the active model, on the same inputs, without acting: the child's part.

First it only listens: what the active model takes while nobody disturbs it is the baseline. Then the candidate decides
on every sample too. If the active model becomes slower than its own baseline, the shadow ends itself at once.
"""

import os
import resource
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from agents.inference.contract import NotQualifiedError, read_contract
from agents.inference.demands import Demands
from agents.inference.runtime import Place, Runner, Tell, runtime_for
from agents.inference.session import Array, finite, fits
from agents.protocol.v1 import TensorSpec
from agents.protocol.v1.contract import Contract, Threshold
from agents.sdk.shadow import Sample, SampleReader, Tensor

_POLL_S: Final = 0.02
_KEPT: Final = 20_000
_BASELINE_SHARE: Final = 0.25
_BASELINE_MAX_S: Final = 1800.0
_BASELINE_LEAST: Final = 20
_WINDOW: Final = 200
_LOOK_EVERY: Final = 50
# Slower by a quarter and by more than the clock's noise is slower.
_SLOWER: Final = 1.25
_NOISE_MS: Final = 0.2


@dataclass
class _Tally:
    decisions: int = 0
    strange: int = 0
    disagreed: int = 0
    active_events: int = 0
    missed: int = 0
    phantom: int = 0
    late: int = 0
    before_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    active_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    candidate_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def slows_active(self) -> bool:
        if len(self.active_ms) < _LOOK_EVERY:
            return False
        now_ms = _percentile(list(self.active_ms)[-_WINDOW:], 99)
        return now_ms > _percentile(self.before_ms, 99) * _SLOWER + _NOISE_MS


@dataclass(frozen=True)
class Question:
    bundle: Path
    ring: Path
    session: str
    content_digest: str
    duration_s: float
    first_word_s: float


def shadow(question: Question, demands: Demands, place: Place, tell: Tell) -> dict[str, Any]:
    """Return what was seen, and why it ended early if it did.

    Raises:
        NotQualifiedError: the candidate does not run.
    """
    os.nice(10)  # the active model goes first
    contract = read_contract(question.bundle)
    reader, tally = SampleReader(question.ring, question.session), _Tally()
    # The application looks for the wish once a second; the time begins with its first word.
    _listen(reader, tally, question, time.monotonic() + question.first_word_s, until_first=True)
    if not tally.before_ms:
        return {"held": "shadow_no_samples", "numbers": {}}
    began_s = time.monotonic()
    tell("baseline", 0.0)
    _listen(reader, tally, question, began_s + min(question.duration_s * _BASELINE_SHARE, _BASELINE_MAX_S))
    if len(tally.before_ms) < _BASELINE_LEAST:
        return {"held": "shadow_too_few_samples", "numbers": {}}
    with runtime_for(demands, place).open(question.bundle, tell) as runner:
        tell("comparing", 0.0)
        stopped = _compare_until(
            began_s + question.duration_s, reader, tally, _Side(runner, contract, question, demands.fallback_nodes_max)
        )
    tell("compared", float(tally.decisions))
    return {"held": stopped or _too_little(tally, contract), "numbers": _numbers(tally, reader.lost)}


@dataclass(frozen=True)
class _Side:
    runner: Runner
    contract: Contract
    question: Question
    fallback_nodes_max: int


def _listen(
    reader: SampleReader, tally: _Tally, question: Question, until_s: float, *, until_first: bool = False
) -> None:
    while time.monotonic() < until_s and not (until_first and tally.before_ms):
        for sample in _of_active(reader.read(), question):
            tally.before_ms.append(sample.latency_ms)
        time.sleep(_POLL_S)


def _of_active(samples: list[Sample], question: Question) -> list[Sample]:
    return [each for each in samples if each.content_digest == question.content_digest and 0 <= each.latency_ms < 1e7]


def _compare_until(until_s: float, reader: SampleReader, tally: _Tally, side: _Side) -> str | None:
    while time.monotonic() < until_s:
        for sample in _of_active(reader.read(), side.question):
            _compare(sample, tally, side)
            if len(tally.active_ms) % _LOOK_EVERY == 0 and tally.slows_active():
                return "shadow_stopped_slows_active"
        time.sleep(_POLL_S)
    return None


def _compare(sample: Sample, tally: _Tally, side: _Side) -> None:
    tally.active_ms.append(sample.latency_ms)
    inputs = _arrays(sample.inputs, side.contract.inputs)
    active = _arrays(sample.outputs, side.contract.outputs)
    if inputs is None or active is None:
        tally.strange += 1
        return
    start = time.perf_counter()
    candidate = side.runner.run(inputs)
    took_ms = (time.perf_counter() - start) * 1e3
    rules = side.contract.shadow
    if tally.decisions == 0 and side.runner.elsewhere() > side.fallback_nodes_max:
        raise NotQualifiedError("operators fell back to another execution provider")
    tally.decisions += 1
    tally.candidate_ms.append(took_ms)
    tally.late += rules.deadline_ms is not None and took_ms > rules.deadline_ms
    tally.disagreed += any(_differs(candidate[name], value, rules.rtol, rules.atol) for name, value in active.items())
    for rule in rules.events:
        expected = _happens(rule, active) or rule.name in sample.events
        found = _happens(rule, candidate)
        tally.active_events += expected
        tally.missed += expected and not found
        tally.phantom += found and not expected


def _arrays(tensors: Mapping[str, Tensor], specs: tuple[TensorSpec, ...]) -> dict[str, Array] | None:
    """Return what the contract declares; None if the sample has something else."""
    found: dict[str, Array] = {}
    for spec in specs:
        tensor = tensors.get(spec.name)
        if tensor is None or tensor.dtype != spec.dtype:
            return None
        try:
            value = np.frombuffer(tensor.data, dtype=tensor.dtype).reshape(tensor.shape)
        except ValueError:
            return None
        if not fits(value, spec):
            return None
        found[spec.name] = value
    return found


def _differs(candidate: Array, active: Array, rtol: float, atol: float) -> bool:
    if candidate.shape != active.shape or not finite(candidate):
        return True
    if not np.issubdtype(active.dtype, np.floating):
        return bool(np.any(candidate != active))
    far = np.abs(candidate.astype(np.float64) - active.astype(np.float64))
    return bool(np.any(~(far <= atol + rtol * np.abs(active.astype(np.float64)))))


def _happens(rule: Threshold, outputs: Mapping[str, Array]) -> bool:
    values = outputs.get(rule.output)
    if values is None or rule.index >= values.size:
        raise NotQualifiedError(f"the shadow's event {rule.name} looks at an output that is not there")
    value = float(values.reshape(-1)[rule.index])
    return (rule.above is not None and value > rule.above) or (rule.below is not None and value < rule.below)


def _too_little(tally: _Tally, contract: Contract) -> str | None:
    if tally.decisions == 0 and tally.strange:
        return "shadow_inputs_differ"
    if tally.decisions == 0:
        return "shadow_no_samples"
    return "shadow_too_few_samples" if tally.decisions < contract.shadow.min_decisions else None


def _numbers(tally: _Tally, lost: int) -> dict[str, float]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    numbers = {
        "shadow_decisions": float(tally.decisions),
        "shadow_disagreed": float(tally.disagreed),
        "shadow_active_events": float(tally.active_events),
        "shadow_missed": float(tally.missed),
        "shadow_phantom": float(tally.phantom),
        "shadow_deadline_misses": float(tally.late),
        "shadow_samples_lost": float(lost + tally.strange),
        "shadow_cpu_s": own.ru_utime + own.ru_stime,
        "shadow_active_p99_before_ms": _percentile(tally.before_ms, 99),
    }
    if tally.active_ms:
        numbers["shadow_active_p99_ms"] = _percentile(tally.active_ms, 99)
    if tally.candidate_ms:
        numbers["shadow_p50_ms"] = _percentile(tally.candidate_ms, 50)
        numbers["shadow_p99_ms"] = _percentile(tally.candidate_ms, 99)
    return numbers


def _percentile(values: deque[float] | list[float], share: float) -> float:
    return float(np.percentile(np.asarray(values, dtype=np.float64), share))
