"""Owns frames.parquet: what a model learns from, one row per decision, with where each row came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.workloads.kit.types import Array, WorkloadError

MAX_ROWS = 5_000_000
_STORED = {"float16": pa.float16(), "float32": pa.float32()}


@dataclass(frozen=True)
class Feature:
    """One column of vectors: its name, stored type and the shape of one row."""

    name: str
    stored: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        return int(np.prod(self.shape))


@dataclass
class Frames:
    """Rows of features, with a weight, the group they must not be split from, and the source they came from."""

    features: dict[str, Array]
    weight: Array
    group: Array
    source: Array

    def __len__(self) -> int:
        return len(self.weight)

    def __getitem__(self, name: str) -> Array:
        return self.features[name]

    def take(self, rows: Array) -> "Frames":
        features = {name: column[rows] for name, column in self.features.items()}
        return Frames(features, self.weight[rows], self.group[rows], self.source[rows])

    def sample(self, share: float, rng: np.random.Generator) -> "Frames":
        """Keep about this share of the rows, in their order."""
        return self if share >= 1.0 else self.take(np.flatnonzero(rng.random(len(self)) < share))


def frames(features: Mapping[str, Array], *, weight: float | Array, group: str | Array, source: str) -> Frames:
    """Make frames whose every row has this source, and the given weight and group."""
    rows = len(next(iter(features.values())))
    weights = np.full(rows, weight, np.float32) if isinstance(weight, float) else weight.astype(np.float32)
    groups = np.full(rows, group, object) if isinstance(group, str) else group.astype(object)
    return Frames(dict(features), weights, groups, np.full(rows, source, object))


def join(parts: Sequence[Frames]) -> Frames:
    names = parts[0].features
    return Frames(
        {name: np.concatenate([part[name] for part in parts]) for name in names},
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.group for part in parts]),
        np.concatenate([part.source for part in parts]),
    )


def write_frames(path: Path, data: Frames, layout: Sequence[Feature]) -> None:
    columns = {feature.name: _vectors(data[feature.name], feature) for feature in layout}
    columns["weight"] = pa.array(data.weight.astype(np.float32))
    columns["group"] = pa.array(data.group.tolist(), pa.string())
    columns["source"] = pa.array(data.source.tolist(), pa.string())
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, compression="zstd", use_dictionary=["group", "source"])


def _vectors(values: Array, feature: Feature) -> pa.FixedSizeListArray:
    flat = np.ascontiguousarray(values, np.dtype(feature.stored)).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, _STORED[feature.stored]), feature.width)


def read_frames(path: Path, layout: Sequence[Feature]) -> Frames:
    """Read frames and refuse what is not ours: missing columns, other widths, too many rows, numbers that are none."""
    try:
        table = pq.ParquetFile(path)
        if table.metadata.num_rows > MAX_ROWS:
            raise WorkloadError(f"{path}: {table.metadata.num_rows} rows are more than {MAX_ROWS}")
        data = table.read()
    except (OSError, pa.ArrowException) as error:
        raise WorkloadError(f"{path}: cannot be read as frames: {error}") from error
    features = {feature.name: _read_vectors(data, feature, path) for feature in layout}
    weight, group, source = (_plain(data, name, path) for name in ("weight", "group", "source"))
    return Frames(features, weight.astype(np.float32), group, source)


def _read_vectors(data: pa.Table, feature: Feature, path: Path) -> Array:
    column = _column(data, feature.name, path).combine_chunks()
    if not pa.types.is_fixed_size_list(column.type) or column.type.list_size != feature.width:
        raise WorkloadError(f"{path}: column {feature.name} must be lists of {feature.width} numbers")
    values = np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.dtype(feature.stored))
    if len(values) != len(data) * feature.width or not np.isfinite(values).all():
        raise WorkloadError(f"{path}: column {feature.name} has missing or infinite values")
    return values.reshape(len(data), *feature.shape)


def _plain(data: pa.Table, name: str, path: Path) -> Array:
    return np.asarray(_column(data, name, path).to_numpy(zero_copy_only=False))


def _column(data: pa.Table, name: str, path: Path) -> pa.ChunkedArray:
    if name not in data.column_names:
        raise WorkloadError(f"{path}: column {name} is missing")
    return data.column(name)
