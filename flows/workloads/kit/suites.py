"""Owns suite.json and results.jsonl: which scenarios there are, and what a model did in each."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from flows.workloads.kit.job import read_object
from flows.workloads.kit.types import Json, WorkloadError

SCHEMA = "fleetloop.suite/v1"


@dataclass(frozen=True)
class Entry:
    """One scenario of a suite. `cluster` names what it shares with others that makes them dependent.

    `source` is the field event it was made from, `repeats` the situation that it drives with another seed.
    """

    id: str
    seed: int
    cluster: str
    tags: list[str]
    params: Json
    source: str = ""
    repeats: str = ""


@dataclass(frozen=True)
class Suite:
    workload: str
    suite: str
    kind: str
    simulator: str
    scenarios: list[Entry]
    metrics: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        body = {**vars(self), "schema": SCHEMA, "scenarios": [vars(entry) for entry in self.scenarios]}
        if not self.metrics:
            del body["metrics"]
        path.write_text(json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n")


def read_suite(path: Path, simulator: str) -> Suite:
    """Read a suite and refuse one that was drawn for another simulator: its results would not be comparable."""
    body = read_object(path)
    if body.get("schema") != SCHEMA or body.get("simulator") != simulator:
        raise WorkloadError(f"{path}: is for {body.get('simulator')!r}, this simulator is {simulator!r}")
    try:
        entries = [Entry(**entry) for entry in cast("Sequence[Json]", body["scenarios"])]
        return Suite(
            body["workload"],
            body["suite"],
            body["kind"],
            simulator,
            entries,
            cast("dict[str, str]", body.get("metrics", {})),
        )
    except (KeyError, TypeError) as error:
        raise WorkloadError(f"{path}: malformed suite: {error}") from error


def metric_definition(name: str, source: str) -> dict[str, str]:
    """Name the code that decides what a metric means, with its digest: the same word may come to mean another thing."""
    return {"name": name, "sha256": hashlib.sha256(Path(source).read_bytes()).hexdigest()}


def result(suite: Suite, entry: Entry, model_sha256: str, metrics: Json) -> Json:
    """One line of results.jsonl, sealed by the digest of its own canonical JSON."""
    row = {
        "suite": suite.suite,
        "scenario": entry.id,
        "seed": entry.seed,
        "cluster": entry.cluster,
        "model_sha256": model_sha256,
        "simulator": suite.simulator,
        "status": "ok",
        "metrics": metrics,
    }
    return {**row, "evidence_sha256": evidence_sha256(row)}


def evidence_sha256(row: Json) -> str:
    """The digest of a result line without its own digest."""
    rest = {key: value for key, value in row.items() if key != "evidence_sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_results(path: Path, rows: Iterable[Json]) -> None:
    path.write_text("".join(json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in rows))
