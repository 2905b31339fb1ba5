"""Parts of a file, as HTTP asks for them (RFC 9110 §14)."""

import re

RANGE = re.compile(r"^bytes=(\d{1,18})-(\d{0,18})$")


def byte_range(header: str | None, size: int) -> tuple[int, int, int]:
    """Return (start, stop, status); a header that is not one simple range is ignored, as RFC 9110 allows."""
    found = RANGE.match(header or "")
    if not found:
        return 0, size, 200
    start = int(found[1])
    stop = min(int(found[2]) + 1, size) if found[2] else size
    return (start, stop, 206) if start < stop else (0, 0, 416)
