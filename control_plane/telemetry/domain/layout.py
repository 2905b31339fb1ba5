"""How a topic's binary messages are laid out, as the recording itself says: the open format `x-le-struct`.

The schema of such a channel is JSON: scalar fields and arrays of them, little-endian, one after another without gaps,
and which of them show what (docs/explanation/recordings.md). It comes from a device, so every size is bounded here,
before anything is made of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictInt, ValidationError, field_validator

from agents.protocol.v1 import strict_json
from control_plane.kit.pages import Lenient
from control_plane.telemetry.domain.scene import MAX_MOVERS

ENCODING = "x-le-struct"
MAX_LAYOUT_BYTES = MAX_MESSAGE_BYTES = 64 << 10
MAX_RANGES = 4096

Quantity = Literal[
    "x_m", "y_m", "yaw_rad", "speed_mps", "command", "ranges_m", "movers_x_m", "movers_y_m", "movers_radius_m"
]
POSE: tuple[Quantity, ...] = ("x_m", "y_m", "yaw_rad", "speed_mps")
MOVERS: tuple[Quantity, ...] = ("movers_x_m", "movers_y_m", "movers_radius_m")

Name = Annotated[str, Field(min_length=1, max_length=100)]
Size = Annotated[StrictInt, Field(ge=1, le=MAX_MESSAGE_BYTES)]
Place = Annotated[StrictInt, Field(ge=0, lt=MAX_MESSAGE_BYTES)]


class LayoutField(Lenient):
    """`shape` is that of an array in C order; without it, it is one number."""

    name: Name
    type: Literal["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
    shape: list[Size] = Field(default_factory=list, max_length=4)
    unit: str = Field(default="", max_length=100)


class Source(Lenient):
    """Where a quantity stands: a field, or a part of it by its first indices; times `scale` it is in our unit."""

    field: Name
    take: list[Place] = Field(default_factory=list, max_length=4)
    scale: float = 1.0


class LayoutFile(Lenient):
    """The schema of a channel whose encoding is `x-le-struct`."""

    schema_: Literal["fleetloop.layout/v1"] = Field(alias="schema")
    fields: list[LayoutField] = Field(min_length=1, max_length=256)
    replay: dict[Quantity, Source] = Field(default_factory=dict)

    @field_validator("replay", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """Take a field's name for all of that field."""
        if not isinstance(value, dict):
            return value
        return {key: {"field": source} if isinstance(source, str) else source for key, source in value.items()}


@dataclass(frozen=True)
class Layout:
    """A layout that is sound: every size fits, every quantity is where it says."""

    dtype: np.dtype[np.void]
    sources: dict[Quantity, tuple[str, tuple[int, ...], float]]

    @property
    def size(self) -> int:
        return self.dtype.itemsize

    def values(self, quantity: Quantity, messages: Sequence[bytes]) -> NDArray[np.float64]:
        """Return one row for each message, which must have our size; a number that is none stays none."""
        field, take, scale = self.sources[quantity]
        column = np.frombuffer(b"".join(messages), self.dtype)[field]
        part: tuple[Any, ...] = (slice(None), *take)
        with np.errstate(over="ignore", invalid="ignore"):
            found: NDArray[np.float64] = column[part].astype(np.float64) * scale
        return found


def read_layout(data: bytes) -> Layout:
    """Read the schema of a channel.

    Raises:
        ValueError: it is no layout, or one that cannot be; the message says why.
    """
    file = LayoutFile.model_validate(strict_json(data, MAX_LAYOUT_BYTES))
    fields = {field.name: field for field in file.fields}
    if len(fields) < len(file.fields):
        raise ValueError("two fields have the same name")
    size = sum(int(field.type[1]) * math.prod(field.shape) for field in file.fields)
    if size > MAX_MESSAGE_BYTES:
        raise ValueError(f"its messages would have {size} bytes, at most {MAX_MESSAGE_BYTES} are read")
    # numpy has its own ideas of names; these are ours.
    places = {name: f"f{i}" for i, name in enumerate(fields)}
    dtype = np.dtype([(places[f.name], f"<{f.type}", tuple(f.shape)) for f in file.fields])
    sources = {}
    for quantity, source in file.replay.items():
        _must_fit(quantity, source, fields.get(source.field))
        sources[quantity] = (places[source.field], tuple(source.take), source.scale)
    return Layout(dtype, sources)


def told(error: ValueError) -> str:
    """Say what is wrong with a file in one short line, without what else it holds."""
    if not isinstance(error, ValidationError):
        return str(error)[:200]
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:100]
    return f"{place}: {first['msg'][:200]}" if place else first["msg"][:200]


def _must_fit(quantity: Quantity, source: Source, field: LayoutField | None) -> None:
    if field is None:
        raise ValueError(f"{quantity} is in a field {source.field!r} that is not there")
    if any(place >= size for place, size in zip(source.take, field.shape, strict=False)):
        raise ValueError(f"{quantity} is taken from outside of {source.field!r}")
    left = field.shape[len(source.take) :]
    if len(source.take) > len(field.shape) or not _is_right(quantity, left):
        raise ValueError(f"{quantity} cannot be what {source.field!r} holds at {source.take}: its shape is {left}")


def _is_right(quantity: Quantity, shape: list[int]) -> bool:
    if quantity in POSE:
        return shape == []
    if quantity == "command":
        return shape == [2]
    return len(shape) == 1 and shape[0] <= (MAX_RANGES if quantity == "ranges_m" else MAX_MOVERS)
