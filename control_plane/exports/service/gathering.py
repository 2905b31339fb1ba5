"""What the documents tell, asked of the slices that know it."""

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from control_plane.datasets import service as datasets
from control_plane.evaluation import service as evaluation
from control_plane.evaluation.schemas import EvaluationItem, GateItem, SuiteItem
from control_plane.exports.domain.values import Clips, Curation, Made, Making
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, NotFound
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.registry import service as registry
from control_plane.registry.schemas import VersionItem
from control_plane.rollout import service as rollout
from control_plane.training import service as training
from control_plane.training.schemas import TrainingItem

MOST_RUNS = 500
"""How many runs one document tells: each is read from the slice that knows it."""
MOST_DATASETS = 50
"""How many of these may be curations: a manifest has up to a hundred thousand entries to read."""
LISTED = 900
"""How many recordings of a dataset are named one by one; its digest stands for all of them."""
GATES = 20
FROM_THE_FIELD = frozenset({Kind.DEVICE, Kind.FIELD_EVENT, Kind.RECORDING})
RUNS = (Kind.DATASET, Kind.TRAINING, Kind.MODEL_VERSION, Kind.EVALUATION, Kind.GATE)


Item = TypeVar("Item")


async def there(asked: Awaitable[Item]) -> Item | None:
    """Return what was asked for, or None if there is no such thing: lineage may name what retention has taken."""
    try:
        return await asked
    except NotFound:
        return None


@dataclass(frozen=True, slots=True)
class Reader:
    """One caller's eyes: whoever `trains` must not see what hidden suites found."""

    session: Session
    trains: bool

    async def making(self, digest: str) -> Making:
        """Return all that is known of one version."""
        version = await registry.get_version(self.session, digest)
        found = await evaluation.list_gates(self.session, candidate=digest, limit=GATES, trains=self.trains)
        used = found.items[0].evidence.get("evaluations", []) if found.items else []
        judged = [await self.evaluation(str(name)) for name in used]
        mine = tuple(one for one in judged if one is not None and one.content_digest == digest)
        return Making(
            version=version,
            model=await registry.get_model(self.session, version.model),
            parent=await self.version(version.parent) if version.parent else None,
            dataset=await self.curation(version.dataset) if version.dataset else None,
            training=await self.training(version.training) if version.training else None,
            gates=tuple(found.items),
            evaluations=mine,
            suites=await self.suites(one.suite for one in mine),
            attestations=tuple(await registry.list_attestations(self.session, digest)),
        )

    async def version(self, digest: str) -> VersionItem | None:
        return await there(registry.get_version(self.session, digest))

    async def curation(self, digest: str) -> Curation | None:
        """Return a dataset version, its manifest cut down to what documents tell."""
        found = await there(datasets.get(self.session, digest))
        if found is None:
            return None
        clips = found.manifest["clips"]
        listed = tuple((str(clip["recording"]), str(clip["split"])) for clip in clips[:LISTED])
        return Curation(
            digest=digest,
            name=found.name,
            code=str(found.manifest["code"]),
            query=found.manifest["query"],
            parents=tuple(found.manifest["parents"]),
            clips=Clips(listed, len(clips), sum(int(clip["size_bytes"]) for clip in clips)),
            holdout=found.holdout,
            created_by=found.created_by,
            created_at=found.created_at,
        )

    async def training(self, key: str) -> TrainingItem | None:
        return await there(training.get(self.session, key))

    async def evaluation(self, name: str) -> EvaluationItem | None:
        return await there(evaluation.get_evaluation(self.session, name, trains=self.trains))

    async def gate(self, name: str) -> GateItem | None:
        return await there(evaluation.get_gate(self.session, name, trains=self.trains))

    async def suites(self, digests: Iterable[str]) -> dict[str, SuiteItem]:
        """Return those of some suites that are there."""
        found = {digest: await there(evaluation.get_suite(self.session, digest)) for digest in sorted(set(digests))}
        return {digest: suite for digest, suite in found.items() if suite is not None}

    async def made(self, root: Node, depth: int) -> Made:
        """Return what the root was made from and what was made of it.

        Raises:
            NotFound: no edge names the root.
            Invalid: that is more than one document tells.
        """
        names = await self._names(root, depth)
        evaluations = [await self.evaluation(name) for name in names[Kind.EVALUATION]]
        known = {one.id: one for one in evaluations if one is not None}
        curations = [await self.curation(name) for name in names[Kind.DATASET]]
        trainings = [await self.training(name) for name in names[Kind.TRAINING]]
        versions = [await self.version(name) for name in names[Kind.MODEL_VERSION]]
        gates = [await self.gate(name) for name in names[Kind.GATE]]
        found = Made(
            datasets={one.digest: one for one in curations if one},
            trainings={one.key: one for one in trainings if one},
            versions={one.content_digest: one for one in versions if one},
            suites=await self.suites(one.suite for one in known.values()),
            evaluations=known,
            gates={one.id: one for one in gates if one},
        )
        return await self.named(found)

    async def named(self, made: Made) -> Made:
        """Add the names of what was read by the runs that are told, whether or not its own making is told."""
        makers: list[TrainingItem | VersionItem] = [*made.trainings.values(), *made.versions.values()]
        parents = {parent for one in made.datasets.values() for parent in one.parents}
        digests = {one.dataset for one in makers if one.dataset} | parents | set(made.datasets)
        wanted = {one.parent for one in makers if one.parent} | {e.content_digest for e in made.evaluations.values()}
        others = [await self.version(digest) for digest in sorted(wanted - set(made.versions))]
        return replace(
            made,
            also={one.content_digest: one for one in others if one},
            dataset_names=await datasets.names_of(self.session, digests),
        )

    async def _names(self, root: Node, depth: int) -> dict[Kind, list[str]]:
        """Walk both ways over what is made, past the field: a dataset may have a hundred thousand recordings."""
        # Where the root is from the field itself, the way down begins there.
        through = frozenset(Kind) - FROM_THE_FIELD | ({Kind.RECORDING} if root.kind is Kind.FIELD_EVENT else set())
        ways = [
            await lineage.trace(self.session, root, down=down, depth=depth, through=through) for down in (False, True)
        ]
        nodes = dict.fromkeys(Node(n.kind, n.name) for way in ways for e in way.edges for n in (e.source, e.target))
        names = {kind: [node.name for node in nodes if node.kind is kind] for kind in RUNS}
        count = sum(len(found) for found in names.values())
        many = count > MOST_RUNS or len(names[Kind.DATASET]) > MOST_DATASETS
        if many or any(way.truncated for way in ways):
            bounds = f"{MOST_RUNS} runs or {MOST_DATASETS} datasets"
            raise Invalid(
                f"{root} stands among more than {bounds}; ask for less depth than {depth}", code="export_too_large"
            )
        return names

    async def version_of(self, root: Node) -> str:
        """Return the content digest of the version that a thing is about."""
        if root.kind is Kind.RELEASE:
            return (await registry.get_release(self.session, root.name)).content_digest
        if root.kind is Kind.ROLLOUT:
            return (await rollout.get(self.session, root.name)).content_digest
        if root.kind is Kind.GATE:
            return (await evaluation.get_gate(self.session, root.name, trains=self.trains)).candidate
        if root.kind is Kind.EVALUATION:
            found = await evaluation.get_evaluation(self.session, root.name, trains=self.trains)
            return found.content_digest
        return root.name
