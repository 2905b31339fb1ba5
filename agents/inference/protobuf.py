"""The wire format of protocol buffers, as far as it takes to look into a file before a native parser gets it."""

from collections.abc import Iterator

Span = tuple[int, int]


class MalformedError(ValueError):
    """The bytes are no message."""


def fields(data: memoryview, span: Span) -> Iterator[tuple[int, int | Span]]:
    """Yield the number of each field with its integer, or where its bytes stand; fixed numbers come as spans."""
    at, end = span
    while at < end:
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise MalformedError("a field without a number")
        if wire == 0:
            value, at = _varint(data, at, end)
            yield number, value
            continue
        size, at = _size(data, at, end, wire)
        if size > end - at:
            raise MalformedError("a field is longer than its message")
        yield number, (at, at + size)
        at += size


def text(data: memoryview, value: int | Span) -> str:
    if isinstance(value, int) or value[1] - value[0] > 4096:
        raise MalformedError("a name is no short string")
    try:
        return bytes(data[value[0] : value[1]]).decode()
    except UnicodeDecodeError as error:
        raise MalformedError("a name is no UTF-8") from error


def span_of(value: int | Span) -> Span:
    if isinstance(value, int):
        raise MalformedError("a number stands where a message should")
    return value


def _size(data: memoryview, at: int, end: int, wire: int) -> Span:
    if wire == 2:
        return _varint(data, at, end)
    if wire in {1, 5}:
        return (8 if wire == 1 else 4), at
    raise MalformedError(f"wire type {wire} does not occur")


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise MalformedError("a number does not end")
