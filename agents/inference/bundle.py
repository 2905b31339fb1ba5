"""Which files a bundle may have and what must be in them, before anything native reads them.

By name and by content: a pickle or an archive that calls itself .onnx or .safetensors is found out here.
"""

import struct
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Final

from agents.inference.contract import NotQualifiedError
from agents.inference.graph import check_graph
from agents.protocol.v1 import strict_json

_SUFFIXES: Final = frozenset({".onnx", ".json", ".safetensors", ".data"})
_NEEDED: Final = ("model.onnx", "contract.json", "golden.safetensors")
_GOLDEN_BYTES: Final = 256 << 20
_HEADER_BYTES: Final = 1 << 20
_TENSORS_MAX: Final = 1024
_ITEM_BYTES: Final = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U8": 1, "U16": 2, "U32": 4, "U64": 8, "BOOL": 1,
}  # fmt: skip


def check_files(bundle: Path) -> None:
    """Refuse a bundle with anything in it that is not what its name says.

    Raises:
        NotQualifiedError: which file, and why.
    """
    # Names with a dot in front are the agent's own; the wire allows none in a bundle.
    names = frozenset(path.name for path in bundle.iterdir() if not path.name.startswith("."))
    for name in sorted(names):
        if Path(name).suffix not in _SUFFIXES:
            raise NotQualifiedError(f"only .onnx, .safetensors, .data and .json are loaded, not {name}")
        # A link may lead out of the bundle, and a pipe would block whoever opens it.
        if (bundle / name).is_symlink() or not (bundle / name).is_file():
            raise NotQualifiedError(f"{name} is no plain file")
    for needed in _NEEDED:
        if needed not in names:
            raise NotQualifiedError(f"the bundle has no {needed}")
    for name in sorted(names):
        if name.endswith(".onnx"):
            check_graph(bundle / name, names)
        elif name.endswith(".safetensors"):
            check_safetensors(bundle / name)


def check_safetensors(path: Path) -> None:
    """Check the header ourselves: the library takes a name that stands twice, and one reader sees the other tensor."""
    size = path.stat().st_size
    if size > _GOLDEN_BYTES:
        raise NotQualifiedError(f"{path.name} is too large")
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_HEADER_BYTES, size - 8):
            raise NotQualifiedError(f"{path.name} is no safetensors file")
        header = file.read(length)
    try:
        tensors = strict_json(header, _HEADER_BYTES)
        _check_header(tensors, size - 8 - length)
    except (ValueError, KeyError, TypeError) as error:
        raise NotQualifiedError(f"{path.name} has a bad header: {str(error)[:200]}") from error


def _check_header(tensors: Any, data_bytes: int) -> None:
    if not isinstance(tensors, dict) or len(tensors) > _TENSORS_MAX:
        raise ValueError("it is no table of tensors")
    spans = sorted(_span(value) for name, value in tensors.items() if name != "__metadata__")
    ends = [(0, 0), *spans, (data_bytes, data_bytes)]
    if any(first[1] != second[0] for first, second in pairwise(ends)):
        raise ValueError("its tensors overlap or leave gaps")


def _span(about: Any) -> tuple[int, int]:
    begin, end = about["data_offsets"]
    shape = about["shape"]
    whole = all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in (begin, end, *shape))
    if not whole or len(shape) > 8 or end - begin != prod(shape) * _ITEM_BYTES[about["dtype"]]:
        raise ValueError("a tensor's shape does not fit its bytes")
    return begin, end
