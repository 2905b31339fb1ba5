"""Cursor pagination: an opaque cursor names the last row seen, so that pages stay right while rows are added."""

import base64
import binascii
import json
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from control_plane.kit.errors import Invalid

Item = TypeVar("Item")


class Schema(BaseModel):
    """What the API takes and gives; unknown fields are refused, NaN too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Lenient(BaseModel):
    """A part of a file that somebody else's program wrote: unknown fields are its own business."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True)


class Page(Schema, Generic[Item]):
    items: list[Item]
    next: str | None = None


def page_of(items: list[Item], limit: int, last: Any) -> Page[Item]:
    """Make a page from up to `limit + 1` items; `last` maps the last item kept to its cursor value."""
    kept = items[:limit]
    more = len(items) > limit
    return Page[Any](items=kept, next=encode_cursor(last(kept[-1])) if more else None)


def encode_cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, *kinds: type) -> tuple[Any, ...] | None:
    """Return the values a cursor holds, if they are of the kinds (default: one text) this list is ordered by."""
    if cursor is None:
        return None
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError) as error:
        raise Invalid("this cursor was not made by this API") from error
    if not isinstance(values, list) or [type(value) for value in values] != list(kinds or (str,)):
        raise Invalid("this cursor was not made by this API")
    return tuple(values)
