"""`contract.json`: what a bundle says of itself, and what a decision may cost; server and devices read it alike."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from agents.protocol.v1.release import TensorSpec

CONTRACT_BYTES: Final = 1 << 20
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_EXACT: Final = frozenset({"int64", "int32", "uint8", "bool"})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class Tolerance(_Part):
    rtol: float = Field(default=1e-4, ge=0, le=1, allow_inf_nan=False)
    atol: float = Field(default=1e-5, ge=0, le=1e3, allow_inf_nan=False)


# What arithmetic of a kind loses even if nothing is wrong.
_LOSS: Final = {
    "float32": Tolerance(rtol=0.0, atol=0.0),
    "float16": Tolerance(rtol=1e-2, atol=1e-3),
    "int8": Tolerance(rtol=5e-2, atol=2e-2),
}


class Golden(Tolerance):
    """How far outputs may be off. `by_dtype` overrules for a dtype of outputs or a precision of the engine."""

    by_dtype: Mapping[str, Tolerance] = Field(default_factory=dict, max_length=8)

    def tolerance(self, dtype: str, precision: str = "float32") -> Tolerance:
        """Return what counts for an output; whole numbers are exact whatever the contract says."""
        if dtype in _EXACT:
            return Tolerance(rtol=0.0, atol=0.0)
        kind = precision if precision in {"float16", "int8"} else dtype
        if kind in self.by_dtype:
            return self.by_dtype[kind]
        loss = _LOSS.get(kind, _LOSS["float32"])
        return Tolerance(rtol=max(self.rtol, loss.rtol), atol=max(self.atol, loss.atol))


class Budget(_Part):
    """What one decision may cost; absent means: measured, not judged. `memory_mb` is what the model adds."""

    latency_p50_ms: _Positive | None = None
    latency_p99_ms: _Positive | None = None
    joules_per_decision: _Positive | None = None
    memory_mb: _Positive | None = None

    def stricter(self, other: "Budget") -> "Budget":
        """Return the lower of each."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in Budget.model_fields)
        limits = {name: [each for each in both if each is not None] for name, *both in pairs}
        return Budget(**{name: min(found) for name, found in limits.items() if found})

    def exceeded(self, numbers: Mapping[str, float]) -> str | None:
        """Return why `numbers` are not within the budget; what it asks for and nobody measured is not within."""
        for name in Budget.model_fields:
            allowed = getattr(self, name)
            if allowed is None:
                continue
            if name not in numbers:
                return f"the budget asks for {name}, and nothing on this device measures it"
            if numbers[name] > allowed:
                return f"{name} is {numbers[name]:.4g}, the budget is {allowed:.4g}"
        return None


class Threshold(_Part):
    """An event happens when one element of an output is above (or below) a value."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    output: str = Field(max_length=100)
    index: int = Field(default=0, ge=0, le=1 << 20)
    above: float | None = Field(default=None, allow_inf_nan=False)
    below: float | None = Field(default=None, allow_inf_nan=False)


class ShadowRules(_Part):
    """When a candidate beside the active model is too different. An output differs beyond `atol` + `rtol` x active."""

    atol: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    rtol: float = Field(default=0.1, ge=0, le=10, allow_inf_nan=False)
    events: tuple[Threshold, ...] = Field(default=(), max_length=16)
    min_decisions: int = Field(default=200, ge=1, le=1_000_000)
    disagreement_rate_max: _Share = 0.05
    missed_rate_max: _Share = 0.0
    phantom_rate_max: _Share = 0.05
    deadline_ms: _Positive | None = None
    deadline_miss_rate_max: _Share = 0.01

    def too_different(self, numbers: Mapping[str, float]) -> tuple[str, str] | None:
        """Return a reason and its words if the candidate must not go on; the gravest comes first."""
        decisions, events = max(1.0, numbers["shadow_decisions"]), max(1.0, numbers["shadow_active_events"])
        rates = (
            ("shadow_misses", "shadow_missed", events, self.missed_rate_max),
            ("shadow_phantoms", "shadow_phantom", decisions, self.phantom_rate_max),
            ("shadow_disagrees", "shadow_disagreed", decisions, self.disagreement_rate_max),
            ("shadow_late", "shadow_deadline_misses", decisions, self.deadline_miss_rate_max),
        )
        for reason, name, of, allowed in rates:
            if numbers[name] / of > allowed:
                return reason, f"{name} {numbers[name]:.0f} of {of:.0f}, allowed is a share of {allowed:g}"
        return None


class Contract(_Part):
    """The `model` part of the workload."""

    name: str = Field(max_length=100)
    inputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=32)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=32)
    golden: Golden = Golden()
    budget: Budget = Budget()
    shadow: ShadowRules = ShadowRules()
