"""Take suites in, give them out."""

from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from agents.protocol.v1 import strict_json
from control_plane.evaluation import store
from control_plane.evaluation.domain import PlannedScenario, fingerprint
from control_plane.evaluation.models import Suite
from control_plane.evaluation.schemas import FileRef, Scenario, SuiteCreate, SuiteFile, SuiteItem
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, NotFound
from control_plane.kit.objects import ObjectStore
from control_plane.kit.uploads import settle

MAX_FILE_BYTES = 256 << 20
HOLDOUT = "holdout"
"""Kind of a suite whose results nobody who trains may see scenario by scenario."""


MISSING: tuple[Any, ...] = (None, (), "", "", "")


async def create_suite(session: Session, objects: ObjectStore, body: SuiteCreate) -> SuiteItem:
    """Take a suite.json in; its sha256 is the suite's digest, and another digest of the same name a new version."""
    suite = parse_suite(await read_file(objects, body.file))
    ids = [scenario.id for scenario in suite.scenarios]
    if len(set(ids)) != len(ids):
        raise Invalid("a scenario stands twice in this suite", code="malformed")
    tags: dict[str, int] = {}
    for scenario in suite.scenarios:
        for tag in scenario.tags:
            tags[tag] = tags.get(tag, 0) + 1
    values = {
        "digest": body.file.sha256,
        "name": suite.suite,
        "kind": suite.kind,
        "model": body.model,
        "simulator": suite.simulator,
        "size_bytes": body.file.size_bytes,
        "tags": tags,
        "version": await store.count_suites(session, body.model, suite.suite) + 1,
        "metric_definition": suite.metrics.model_dump() if suite.metrics else {},
        "scenarios": [_row(scenario) for scenario in suite.scenarios],
    }
    await store.insert_suite(session, values)
    return suite_item(await find_suite(session, body.file.sha256))


def _row(s: Scenario) -> list[Any]:
    return [s.id, s.cluster, s.seed, s.tags, s.repeats, s.source, s.fingerprint or fingerprint(s.params)]


def planned(suite: Suite) -> tuple[PlannedScenario, ...]:
    """Return the suite's scenarios in its own order; rows from before there was more hold only id and cluster."""
    found = []
    rows: list[list[Any]] = suite.scenarios
    for row in rows:
        whole = [*row, *MISSING[len(row) - 2 :]]
        name, cluster, seed, tags, repeats, source, parameters = whole
        found.append(PlannedScenario(name, cluster, tuple(tags), repeats, source, parameters, seed))
    return tuple(found)


def parse_suite(data: bytes) -> SuiteFile:
    try:
        return SuiteFile.model_validate(strict_json(data, MAX_FILE_BYTES))
    except (ValidationError, ValueError) as error:
        raise Invalid(f"this is not a suite.json: {str(error)[:500]}", code="malformed") from error


async def read_file(objects: ObjectStore, ref: FileRef) -> bytes:
    if await settle(objects, ref.sha256, ref.size_bytes) is None:
        raise Invalid(f"{ref.sha256} of {ref.size_bytes} bytes is not in the object store", code="artifact_missing")
    return await objects.read(ref.sha256, max_size=MAX_FILE_BYTES)


async def list_suites(session: Session, model: str | None = None) -> list[SuiteItem]:
    return [suite_item(s) for s in await store.list_suites(session, model)]


async def get_suite(session: Session, digest: str) -> SuiteItem:
    return suite_item(await find_suite(session, digest))


async def suite_names(session: Session, digests: Collection[str]) -> dict[str, str]:
    """Return names by digest, of those suites that are there."""
    return await store.suite_names(session, digests) if digests else {}


async def find_suite(session: Session, digest: str) -> Suite:
    found = await store.find_suite(session, digest)
    if found is None:
        raise NotFound(f"there is no suite {digest}")
    return found


def suite_item(suite: Suite) -> SuiteItem:
    return SuiteItem(
        digest=suite.digest,
        name=suite.name,
        kind=suite.kind,
        model=suite.model,
        simulator=suite.simulator,
        size_bytes=suite.size_bytes,
        scenarios=len(suite.scenarios),
        tags=suite.tags,
        version=suite.version,
        metric_definition=suite.metric_definition,
        created_at=suite.created_at,
    )
