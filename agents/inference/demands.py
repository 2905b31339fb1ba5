"""What a device asks of every model before it may run there. It imports no numpy."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agents.protocol.v1.contract import Budget

DECISIONS_MAX = 1_000_000


class Demands(BaseModel):
    """`budget` is that of the device class; the contract's holds as well. `runtime` auto is the fastest that is here.

    `soak_s` at `rate_hz` is how long decisions are made one after the other; `rest_s` before it tells the energy of
    decisions from everybody else's. `fallback_nodes_max`: how many operators may run elsewhere than asked for.
    `memory_mb`, `cpu_s` and `wall_s` end a model that takes more; `build_s` is part of `wall_s`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    runtime: Literal["auto", "cpu", "cuda", "tensorrt", "trtexec"] = "cpu"
    precision: Literal["float32", "float16", "int8"] = "float32"
    workspace_mb: int = Field(default=1024, ge=16, le=1 << 17)
    dla: bool = False
    fallback_nodes_max: int = Field(default=0, ge=0, le=100_000)
    soak_s: float = Field(default=0.5, gt=0, le=3600, allow_inf_nan=False)
    rate_hz: float = Field(default=200.0, gt=0, le=10_000, allow_inf_nan=False)
    rest_s: float = Field(default=0.5, gt=0, le=60, allow_inf_nan=False)
    memory_mb: int = Field(default=2048, ge=64, le=1 << 20)
    cpu_s: float = Field(default=120.0, gt=0, le=86_400, allow_inf_nan=False)
    wall_s: float = Field(default=120.0, gt=0, le=86_400, allow_inf_nan=False)
    build_s: float = Field(default=100.0, gt=0, le=86_400, allow_inf_nan=False)
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _bounded(self) -> "Demands":
        if self.soak_s * self.rate_hz > DECISIONS_MAX:
            raise ValueError(f"soak_s times rate_hz is more than {DECISIONS_MAX} decisions")
        return self
