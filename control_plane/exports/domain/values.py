"""What the documents are made from: things of other slices as they give them, gathered beforehand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from control_plane.evaluation.schemas import EvaluationItem, GateItem, SuiteItem
from control_plane.lineage.domain import Kind
from control_plane.pipelines.schemas import RunItem
from control_plane.registry.schemas import AttestationItem, ModelItem, VersionItem
from control_plane.rollout.schemas import RolloutItem
from control_plane.training.schemas import TrainingItem

PRODUCER: Final = "urn:fleetloop:control-plane:v1"
OF_A_VERSION: Final = frozenset({Kind.MODEL_VERSION, Kind.EVALUATION, Kind.GATE, Kind.RELEASE, Kind.ROLLOUT})
"""Kinds of things that are about one model version, and so can be told as that version's statement or bill."""


class Format(StrEnum):
    OPENLINEAGE = "openlineage"
    IN_TOTO = "in-toto"
    CYCLONEDX = "cyclonedx"


@dataclass(frozen=True, slots=True)
class Site:
    """Whose documents these are: names and versions are only unique within one installation."""

    url: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc or "fleetloop"


@dataclass(frozen=True, slots=True)
class Clips:
    """Recordings of a dataset: up to a bound those listed, with their split, and how many there are in all."""

    listed: tuple[tuple[str, str], ...]
    total: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Curation:
    """A dataset version without its manifest, which may name a hundred thousand recordings."""

    digest: str
    name: str
    code: str
    query: Mapping[str, Any]
    parents: tuple[str, ...]
    clips: Clips
    holdout: int
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Making:
    """One version, and what is known of how it was made and judged; gates come newest first."""

    version: VersionItem
    model: ModelItem
    parent: VersionItem | None
    dataset: Curation | None
    training: TrainingItem | None
    gates: tuple[GateItem, ...] = ()
    evaluations: tuple[EvaluationItem, ...] = ()
    suites: Mapping[str, SuiteItem] = field(default_factory=dict)
    attestations: tuple[AttestationItem, ...] = ()

    @property
    def gate(self) -> GateItem | None:
        return self.gates[0] if self.gates else None


@dataclass(frozen=True, slots=True)
class Made:
    """Everything that lineage leads to, by its name.

    `also` are versions and `dataset_names` datasets that these were made from: named alike wherever they are told.
    """

    datasets: Mapping[str, Curation] = field(default_factory=dict)
    trainings: Mapping[str, TrainingItem] = field(default_factory=dict)
    versions: Mapping[str, VersionItem] = field(default_factory=dict)
    suites: Mapping[str, SuiteItem] = field(default_factory=dict)
    evaluations: Mapping[str, EvaluationItem] = field(default_factory=dict)
    gates: Mapping[str, GateItem] = field(default_factory=dict)
    runs: Mapping[str, RunItem] = field(default_factory=dict)
    rollouts: Mapping[str, RolloutItem] = field(default_factory=dict)
    also: Mapping[str, VersionItem] = field(default_factory=dict)
    dataset_names: Mapping[str, str] = field(default_factory=dict)


class Happened(StrEnum):
    """What is told of a run as it happens, by OpenLineage's words; the first goes before the others."""

    START = "START"
    COMPLETE = "COMPLETE"
    FAIL = "FAIL"
    ABORT = "ABORT"


class Told(StrEnum):
    """Of which runs is told as they happen; the words are those of their jobs."""

    RUN = "run"
    TRAIN = "train"
    EVALUATE = "evaluate"
    GATE = "gate"
    PROMOTE = "promote"


@dataclass(frozen=True, slots=True)
class Telling:
    """That something happened to a run, and when."""

    kind: Told
    name: str
    happened: Happened
    at: datetime
