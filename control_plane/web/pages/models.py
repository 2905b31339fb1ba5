"""Models and their versions, with where each came from and went."""

import re
from collections import Counter
from typing import Any

from markupsafe import Markup

from control_plane.evaluation import service as evaluation
from control_plane.kit.errors import NotFound
from control_plane.kit.http import Response
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.lineage.schemas import LineageEdgeItem, LineageNode
from control_plane.registry import service
from control_plane.registry.schemas import ModelItem
from control_plane.rollout import service as rollout
from control_plane.training import service as training
from control_plane.web.charts import HALF
from control_plane.web.edge import PageCall, SeeCall, pages
from control_plane.web.figures import coverage_picture, rate_picture
from control_plane.web.kinship import Words, draw, family_of
from control_plane.web.labels import lineage_page, load_labels
from control_plane.web.names import Names, load_names, rate_of
from control_plane.web.pages.lineage import formats_of
from control_plane.web.pages.overview import field_sums, version_rates
from control_plane.web.told import rules_of, told

SHOWN_VERSIONS = 100
UP, DOWN = 4, 3
LINEAGE_S = 10.0
SHOWN_GAPS = 30
ADDRESS = re.compile(r"https?://[^\s\"'<>]{1,500}")
models = pages()


@models.get("/models")
async def show_models(call: SeeCall) -> Response:
    return call.show("models.html", names=await load_names(call), baselines=await rollout.list_baselines(call.session))


@models.get("/models/{name}")
async def show_model(name: str, call: SeeCall) -> Response:
    model = await service.get_model(call.session, name)
    names = await load_names(call)
    sums = await field_sums(call)
    versions = [v for v in names.versions.values() if v.model == name]
    gates = (await evaluation.list_gates(call.session, limit=50)).items
    return call.show(
        "model.html",
        names=names,
        model=model,
        versions=sorted(versions, key=lambda v: -v.version)[:SHOWN_VERSIONS],
        rates=rate_picture(names, await version_rates(call, names, sums, name)),
        gates={gate.candidate: gate for gate in reversed(gates)},
        baselines={b.content_digest for b in await rollout.list_baselines(call.session)},
        policy=_policy(names, model),
        **await _against_the_field(call, model),
    )


def _policy(names: Names, model: ModelItem) -> dict[str, Any]:
    """Tell the gate's policy: its parts, those of a first version, and what holds for all of them."""
    metric = str(model.gate.get("metric", "incident"))
    rules = {key: rules_of(model.gate.get(key, []), metric) for key in ("parts", "first")}
    return rules | {"rest": told(names, {key: value for key, value in model.gate.items() if key not in rules})}


async def _against_the_field(call: PageCall, model: ModelItem) -> dict[str, Any]:
    """What simulation leaves out and how well it foretells; kept for a while, because it reads many events."""

    async def make() -> dict[str, Any]:
        declared = bool(model.gate.get("domain"))
        coverage = await evaluation.get_coverage(call.session, model.name) if declared else None
        incidents = await evaluation.list_scenarios(call.session, model.name)
        return {
            "shown_gaps": SHOWN_GAPS,
            "coverage": coverage,
            "coverage_picture": coverage_picture(coverage) if coverage else None,
            "prediction": await evaluation.get_prediction(call.session, model.name),
            "incidents": Counter(item.state.value for item in incidents),
        }

    return await call.desk.cache.get(("against-field", model.name), LINEAGE_S, make)


@models.get("/versions/{digest}")
async def show_version(digest: str, call: SeeCall) -> Response:
    version = await service.get_version(call.session, digest)
    names = await load_names(call)
    releases = [r for r in await service.list_releases(call.session, version.model) if r.content_digest == digest]
    rate = await rate_of(call, version)
    return call.show(
        "version.html",
        names=names,
        version=version,
        model=await service.get_model(call.session, version.model),
        gates=(await evaluation.list_gates(call.session, candidate=digest, limit=20)).items,
        releases=releases[:50],
        rate=rate,
        picture=rate_picture(names, [(version, rate)], HALF),
        lineage=await _lineage(call, digest),
        formats=formats_of(Kind.MODEL_VERSION),
        mlflow=await _mlflow(call, version.training),
        baselines=[b for b in await rollout.list_baselines(call.session) if b.content_digest == digest],
    )


async def _mlflow(call: PageCall, key: str | None) -> str | None:
    """Return where MLflow shows the training, if its report says so and that is an address."""
    try:
        report = (await training.get(call.session, key)).report if key else {}
    except NotFound:
        return None
    said = report.get("mlflow_run_url")
    return said if isinstance(said, str) and ADDRESS.fullmatch(said) else None


async def _lineage(call: PageCall, digest: str) -> Markup | None:
    names, root = await load_names(call), LineageNode(kind=Kind.MODEL_VERSION, name=digest)

    async def make() -> Markup | None:
        up, down = await _trace(call, digest, down=False), await _trace(call, digest, down=True)
        family = family_of(root, up, down)
        labels = await load_labels(call.session, names, family.shown if family else ())
        return draw(family, "Lineage of this version", Words(labels.words, labels.page, lineage_page(root)))

    return await call.desk.cache.get(("lineage", digest), LINEAGE_S, make)


async def _trace(call: PageCall, digest: str, *, down: bool) -> list[LineageEdgeItem]:
    node = Node(Kind.MODEL_VERSION, digest)
    try:
        return (await lineage.trace(call.session, node, down=down, depth=DOWN if down else UP)).edges
    except NotFound:
        return []
