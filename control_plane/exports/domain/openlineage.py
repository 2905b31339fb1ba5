"""OpenLineage run events of what made datasets, versions, results and verdicts (spec 2-0-2).

- A run is known by a UUID made from its kind and name: told twice, it is the same run.
- A dataset version, a model version, a suite, an evaluation's results and a gate's verdict are datasets there. Their
  names hold the version, so that a model fine-tuned from its predecessor is no cycle; the version facet is the digest.
- The specification wants a START and an end of every run. Of what is published in one instant both carry that instant;
  inputs stand in the end, since events of one run add up.

Only facets of the specification are used. It has none for models or approvals; what they would say stays here.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.generated.dataset_type_dataset import DatasetTypeDatasetFacet
from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
from openlineage.client.generated.documentation_dataset import DocumentationDatasetFacet
from openlineage.client.generated.error_message_run import ErrorMessageRunFacet
from openlineage.client.generated.execution_parameters_run import ExecutionParameter, ExecutionParametersRunFacet
from openlineage.client.generated.job_type_job import JobTypeJobFacet
from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet
from openlineage.client.generated.test_run import TestExecution, TestRunFacet
from openlineage.client.serde import Serde

from control_plane.evaluation.domain import Verdict
from control_plane.evaluation.schemas import EvaluationItem, GateItem, PartItem
from control_plane.exports.domain.values import PRODUCER, Curation, Happened, Made, Site, Telling, Told
from control_plane.pipelines.schemas import RunItem
from control_plane.registry.schemas import VersionItem
from control_plane.rollout.schemas import RolloutItem
from control_plane.training.domain import TrainingState
from control_plane.training.schemas import TrainingItem

STATUS: Final = {Verdict.PASS: "pass", Verdict.FAIL: "fail"}
ENDS: Final = {TrainingState.DONE: RunState.COMPLETE, TrainingState.FAILED: RunState.FAIL}
LONGEST: Final = 1000


def run_id(kind: str, name: str) -> str:
    """Return the run's UUID: always the same for the same thing."""
    return str(uuid5(NAMESPACE_URL, f"urn:fleetloop:{kind}:{name}"))


def events_of(made: Made, site: Site) -> list[RunEvent]:
    """Return a START and, where it has ended, an end of every run, in the order in which they ended."""
    writer = _Writer(made, site)
    runs = [
        *(writer.curated(each) for each in made.datasets.values()),
        *(writer.trained(each) for each in made.trainings.values()),
        *(writer.registered(each) for each in made.versions.values() if each.training is None),
        *(writer.evaluated(each) for each in made.evaluations.values()),
        *(writer.judged(each) for each in made.gates.values()),
    ]
    return [event for told in sorted(runs, key=lambda told: told.ended_at) for event in writer.events(told)]


def event_of(made: Made, site: Site, telling: Telling) -> RunEvent | None:
    """Return the one event that tells what happened; None if what it happened to is not there any more.

    The same telling gives an event of the same run, type and time, however often and however late it is made.
    """
    writer = _Writer(made, site)
    known: Mapping[Told, tuple[Mapping[str, Any], Callable[[Any], _Told]]] = {
        Told.RUN: (made.runs, writer.ran),
        Told.TRAIN: (made.trainings, writer.trained),
        Told.EVALUATE: (made.evaluations, writer.evaluated),
        Told.GATE: (made.gates, writer.judged),
        Told.PROMOTE: (made.rollouts, writer.promoted),
    }
    items, write = known[telling.kind]
    item = items.get(telling.name)
    if item is None:
        return None
    told = write(item)
    if telling.happened is Happened.START:
        return writer.events(replace(told, started_at=telling.at, end=None))[0]
    return writer.events(replace(told, ended_at=telling.at, end=RunState(telling.happened.value)))[1]


def lines_of(events: Iterable[RunEvent]) -> bytes:
    """Return events as JSON, one a line."""
    return "".join(f"{Serde.to_json(event)}\n" for event in events).encode()


@dataclass(frozen=True, slots=True)
class _Told:
    """One run: what kind of, of what, and how it ended; `end` is None while it goes on."""

    kind: str
    of: str
    name: str
    started_at: datetime
    facets: dict[str, Any]
    inputs: list[InputDataset]
    outputs: list[OutputDataset]
    ended_at: datetime
    end: RunState | None = RunState.COMPLETE


class _Writer:
    """Writes the events of one installation."""

    def __init__(self, made: Made, site: Site) -> None:
        self._made = made
        self._space = f"fleetloop://{site.host}"

    def events(self, told: _Told) -> list[RunEvent]:
        """Return the run's START, and its end unless it goes on; the last of them says what goes in."""
        batch = _facet(JobTypeJobFacet, processingType="BATCH", integration="FLEETLOOP", jobType=told.kind.upper())
        make = partial(
            RunEvent,
            run=Run(run_id(told.kind, told.name), told.facets),
            job=Job(self._space, f"{told.kind}.{told.of}", {"jobType": batch}),
            producer=PRODUCER,
        )
        start = partial(make, eventType=RunState.START, eventTime=told.started_at.isoformat())
        if told.end is None:
            return [start(inputs=told.inputs)]
        ended_at = told.ended_at.isoformat()
        return [start(), make(eventType=told.end, eventTime=ended_at, inputs=told.inputs, outputs=told.outputs)]

    def curated(self, one: Curation) -> _Told:
        inputs = [self._input(f"recordings/{sha256}", sha256) for sha256, _ in one.clips.listed]
        inputs += [self._dataset(digest) for digest in one.parents]
        clips = one.clips
        statistics = {"rowCount": clips.total, "fileCount": clips.total, "size": clips.size_bytes}
        output = self._output(_dataset_name(one.name, one.digest), one.digest, f"{clips.total} recordings", statistics)
        told = {"code": one.code, "query": one.query, "clips": clips.total, "holdout": one.holdout}
        made_at = one.created_at
        return _Told("curate", one.name, one.digest, made_at, _parameters(told), inputs, [output], made_at)

    def trained(self, one: TrainingItem) -> _Told:
        made = [self._made_version(each) for each in self._made.versions.values() if each.training == one.key]
        facets = _parameters({**one.recipe, "code": one.code, "seed": one.seed} | _of_run(one)) | _error(one)
        inputs, ended_at = self._made_from(one), one.finished_at or one.created_at
        return _Told("train", one.model, one.key, one.created_at, facets, inputs, made, ended_at, ENDS.get(one.state))

    def registered(self, one: VersionItem) -> _Told:
        """Tell how a version came in that nobody here trained."""
        made_at, output = one.created_at, self._made_version(one)
        return _Told("register", one.model, one.content_digest, made_at, {}, self._made_from(one), [output], made_at)

    def evaluated(self, one: EvaluationItem) -> _Told:
        told = {"scenarios": one.scenarios, "done": one.done, "nondeterminism": len(one.nondeterminism)}
        inputs, ended_at = [self._version(one.content_digest), self._suite(one.suite)], self._ended(one)
        results = self._output(f"evaluations/{one.id}", one.key, f"{one.done} of {one.scenarios} scenarios")
        facets, end = _parameters(told | one.means), RunState.COMPLETE if ended_at else None
        started_at = one.created_at
        return _Told(
            "evaluate", one.suite_name, one.id, started_at, facets, inputs, [results], ended_at or started_at, end
        )

    def _ended(self, one: EvaluationItem) -> datetime | None:
        """Return when it had enough: all results, or those by which a gate could decide; None if it goes on."""
        used = [gate.created_at for gate in self._made.gates.values() if one.id in gate.evidence.get("evaluations", [])]
        return min(used, default=one.created_at if one.done >= one.scenarios else None)

    def judged(self, one: GateItem) -> _Told:
        inputs = [self._input(f"evaluations/{name}", None) for name in one.evidence.get("evaluations", [])]
        told = {"candidate": one.candidate, "champion": one.champion or "", "policy": one.policy_digest}
        told |= {"verdict": one.verdict.value, "because": one.because}
        facets = _parameters(told) | {"test": _facet(TestRunFacet, tests=[_test(part) for part in one.parts])}
        verdict = self._output(f"gates/{one.id}", one.evidence_sha256, one.because)
        return _Told("gate", one.model, one.id, one.created_at, facets, inputs, [verdict], one.created_at)

    def ran(self, one: RunItem) -> _Told:
        """Tell of a run of a pipeline: what it read and wrote is told by the runs that it consists of."""
        told = {"flow": one.flow, "because": one.because, "requestedBy": one.requested_by, "attempt": one.attempt}
        facets = _parameters(told | one.params) | _message(one.failure)
        ended_at = one.finished_at or one.requested_at
        return _Told("run", one.pipeline, one.id, one.requested_at, facets, [], [], ended_at)

    def promoted(self, one: RolloutItem) -> _Told:
        """Tell of a rollout: it reads a version and what its gate said, and writes what devices then run."""
        told = {"release": one.release, "counter": one.counter, "deviceClasses": one.device_classes}
        told |= {"sites": one.sites or [], "phase": one.phase.value, "because": one.because}
        verdict = [self._input(f"gates/{one.gate_id}", None)] if one.gate_id else []
        inputs, ended_at = [self._version(one.content_digest), *verdict], one.finished_at or one.created_at
        fleet = self._output(f"rollouts/{one.id}", one.content_digest, one.because)
        return _Told("promote", one.model, one.id, one.created_at, _parameters(told), inputs, [fleet], ended_at)

    def _made_from(self, one: TrainingItem | VersionItem) -> list[InputDataset]:
        found = [self._dataset(one.dataset)] if one.dataset else []
        return found + ([self._version(one.parent)] if one.parent else [])

    def _dataset(self, digest: str) -> InputDataset:
        return self._input(_dataset_name(self._made.dataset_names.get(digest), digest), digest)

    def _version(self, digest: str) -> InputDataset:
        known = self._made.versions.get(digest) or self._made.also.get(digest)
        return self._input(_version_name(known) if known else f"models/{digest}", digest)

    def _suite(self, digest: str) -> InputDataset:
        known = self._made.suites.get(digest)
        return self._input(f"suites/{known.name}@{known.version}" if known else f"suites/{digest}", digest)

    def _made_version(self, one: VersionItem) -> OutputDataset:
        files = one.content["files"]
        statistics = {"size": sum(int(file["size_bytes"]) for file in files), "fileCount": len(files)}
        return self._output(_version_name(one), one.content_digest, one.label, statistics, kind="MODEL")

    def _input(self, name: str, version: str | None) -> InputDataset:
        return InputDataset(self._space, name, facets=_facets(version, ""))

    def _output(
        self, name: str, version: str, says: str, statistics: Mapping[str, int] | None = None, kind: str = "FILE"
    ) -> OutputDataset:
        facets = _facets(version, says) | {"datasetType": _facet(DatasetTypeDatasetFacet, datasetType=kind)}
        made = OutputDataset(self._space, name, facets=facets)
        if statistics:
            made.outputFacets = {"outputStatistics": _facet(OutputStatisticsOutputDatasetFacet, **statistics)}
        return made


def _dataset_name(name: str | None, digest: str) -> str:
    return f"datasets/{name}@{digest[:12]}" if name else f"datasets/{digest}"


def _version_name(one: VersionItem) -> str:
    return f"models/{one.model}@{one.version}"


def _facet(kind: Any, **values: Any) -> Any:
    """Make a facet that names us as its producer; the library would name itself."""
    return kind(**values, producer=PRODUCER)


def _facets(version: str | None, says: str) -> dict[str, Any]:
    found = {"version": _facet(DatasetVersionDatasetFacet, datasetVersion=version)} if version else {}
    return found | ({"documentation": _facet(DocumentationDatasetFacet, description=says)} if says else {})


def _of_run(one: TrainingItem) -> dict[str, str]:
    """Name the run of a pipeline that a training belongs to, by its id there."""
    return {"pipelineRun": one.run_id} if one.run_id else {}


def _parameters(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as texts: the facet knows no other kind."""
    given = [ExecutionParameter(key=key, value=value) for key, value in _texts(told)]
    return {"executionParameters": _facet(ExecutionParametersRunFacet, parameters=given)}


def _texts(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in told.items():
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
        yield key, text[:LONGEST]


def _error(one: TrainingItem) -> dict[str, Any]:
    if one.state is not TrainingState.FAILED:
        return {}
    return _message(str(one.report.get("failure") or "the training failed"))


def _message(why: str | None) -> dict[str, Any]:
    if not why:
        return {}
    return {"errorMessage": _facet(ErrorMessageRunFacet, message=why[:LONGEST], programmingLanguage="python")}


def _test(part: PartItem) -> TestExecution:
    """Return one part of the gate as a test; what is inconclusive was not shown, and says so in its description."""
    return TestExecution(
        name=f"{part.suite} {part.rule}{f' {part.metric}' if part.metric else ''}",
        status=STATUS.get(part.verdict, "skip"),
        severity="error",
        type=part.rule,
        description=part.because[:LONGEST],
        params={key: value for key, value in part.figures.items() if value is not None},
    )
