"""An ONNX file looked through before a runtime loads it: known operators only, no code of its own, no foreign files.

It follows every subgraph, because whatever the top of a model may not have must not hide in a branch either.
"""

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agents.inference.contract import NotQualifiedError
from agents.inference.protobuf import MalformedError, Span, fields, span_of, text

# The standard's operators and those onnxruntime itself brings; nothing that is registered from a library.
DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# Wraps what another compiler made, for TensorRT a plan with native code in it.
_REFUSED_OPERATORS: Final = frozenset({"EPContext", "PyOp", "PythonOp"})
_DEPTH_MAX: Final = 8
_NODES_MAX: Final = 200_000
_EXTERNAL: Final = 1

_MODEL_FIELDS: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 26})
_GRAPH, _OPSET, _TRAINING, _FUNCTIONS = 7, 8, 20, 25


def check_graph(path: Path, files: frozenset[str]) -> None:
    """Refuse a model that is not an ONNX graph of known operators; `files` may hold its weights.

    Raises:
        NotQualifiedError: why it is not loaded.
    """
    if path.stat().st_size == 0:
        raise NotQualifiedError(f"{path.name} is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        data = memoryview(mapped)
        look = _Look(data, path.parent, files)
        try:
            look.model((0, len(data)))
        except MalformedError as error:
            raise NotQualifiedError(f"{path.name} is no ONNX file: {error}") from error
        finally:
            look.close()
            data.release()


class _Look:
    def __init__(self, data: memoryview, folder: Path, files: frozenset[str]) -> None:
        self._data, self._folder, self._files = data, folder, files
        self._nodes = 0

    def close(self) -> None:
        # A memoryview that is still held keeps the file mapped.
        self._data = memoryview(b"")

    def model(self, span: Span) -> None:
        graphs = 0
        for number, value in fields(self._data, span):
            if number in {_TRAINING, _FUNCTIONS}:
                raise NotQualifiedError("the model brings functions or training code of its own")
            if number not in _MODEL_FIELDS:
                raise MalformedError(f"field {number} does not occur")
            if number == _GRAPH:
                graphs += 1
                self._graph(span_of(value), 0)
            elif number == _OPSET:
                self._each(span_of(value), {1: lambda each: self._domain(text(self._data, each))})
        if graphs != 1:
            raise MalformedError(f"it has {graphs} graphs")

    def _each(self, span: Span, looks: dict[int, Callable[[int | Span], None]]) -> None:
        for number, value in fields(self._data, span):
            if number in looks:
                looks[number](value)

    def _domain(self, name: str) -> None:
        if name not in DOMAINS:
            raise NotQualifiedError(f"operators of {name!r} are not run here")

    def _graph(self, span: Span, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise NotQualifiedError(f"the model nests graphs more than {_DEPTH_MAX} deep")
        self._each(
            span,
            {
                1: lambda value: self._node(span_of(value), depth),
                5: lambda value: self._tensor(span_of(value)),
                15: lambda value: self._sparse(span_of(value)),
            },
        )

    def _node(self, span: Span, depth: int) -> None:
        self._nodes += 1
        if self._nodes > _NODES_MAX:
            raise NotQualifiedError(f"the model has more than {_NODES_MAX} operators")
        self._each(
            span,
            {
                4: lambda value: self._operator(text(self._data, value)),
                5: lambda value: self._attribute(span_of(value), depth),
                7: lambda value: self._domain(text(self._data, value)),
            },
        )

    def _operator(self, name: str) -> None:
        if name in _REFUSED_OPERATORS:
            raise NotQualifiedError(f"{name} runs what was compiled elsewhere; engines are built on the device")

    def _attribute(self, span: Span, depth: int) -> None:
        def graph(value: int | Span) -> None:
            self._graph(span_of(value), depth + 1)

        def tensor(value: int | Span) -> None:
            self._tensor(span_of(value))

        def sparse(value: int | Span) -> None:
            self._sparse(span_of(value))

        self._each(span, {5: tensor, 6: graph, 10: tensor, 11: graph, 22: sparse, 23: sparse})

    def _sparse(self, span: Span) -> None:
        # Values and indices of a sparse tensor are tensors.
        self._each(span, {1: lambda value: self._tensor(span_of(value)), 2: lambda value: self._tensor(span_of(value))})

    def _tensor(self, span: Span) -> None:
        entries: dict[str, str] = {}
        external = False
        for number, value in fields(self._data, span):
            if number == 13:
                pair = {
                    key: text(self._data, each) for key, each in fields(self._data, span_of(value)) if key in {1, 2}
                }
                entries[pair.get(1, "")] = pair.get(2, "")
            external = external or (number == 14 and value == _EXTERNAL)
        if external or entries:
            self._external(entries)

    def _external(self, entries: dict[str, str]) -> None:
        """Weights beside the model: in a plain file of this bundle, within its bounds, and nowhere else."""
        name = entries.get("location", "")
        path = self._folder / name
        if name not in self._files or Path(name).suffix != ".data" or path.is_symlink() or not path.is_file():
            raise NotQualifiedError(f"the model's weights are in {name[:100]!r}, which is no file of the bundle")
        try:
            offset, length = int(entries.get("offset", "0")), int(entries.get("length", "0"))
        except ValueError as error:
            raise MalformedError("the place of a weight is no number") from error
        if offset < 0 or length < 0 or offset + length > path.stat().st_size:
            raise NotQualifiedError(f"a weight reaches beyond the end of {name}")
