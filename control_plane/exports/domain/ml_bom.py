"""A CycloneDX 1.6 bill of materials of one version: its files, data, parent, and a model card from the gate.

The library (11.12) writes all but `modelCard` and `data`, for which it has no classes yet: those two are put into what
it wrote, and its own strict schema checks the whole in the tests.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6

from control_plane.evaluation.domain import Verdict
from control_plane.evaluation.schemas import EvaluationItem, PartItem, SuiteItem
from control_plane.exports.domain.values import Curation, Making, Site
from control_plane.registry.schemas import VersionItem

DESCRIBED: Final = 1000
MOST_METRICS: Final = 500
Json = dict[str, Any]


def bill_of(making: Making, site: Site) -> bytes:
    """Return the bill as JSON; the same making gives the same bytes."""
    bom, made_at = _bom(making, site), _made_at(making)
    bom.metadata.timestamp = made_at
    bom.serial_number = UUID(int=0)
    plain: Json = json.loads(JsonV1Dot6(bom).output_as_string())
    card, data = _card(making), _data(making)
    plain["metadata"]["component"]["modelCard"] = card
    for component in plain.get("components", []):
        component.update(data.get(component["bom-ref"], {}))
    # Another gate makes another bill, and that needs another number.
    plain["serialNumber"] = uuid5(NAMESPACE_URL, json.dumps(plain, sort_keys=True)).urn
    return (json.dumps(plain, indent=2, sort_keys=True) + "\n").encode()


def _made_at(making: Making) -> datetime:
    """Return the instant of the newest thing the bill tells."""
    known = [making.version.created_at, *(gate.created_at for gate in making.gates)]
    return max([*known, *(one.created_at for one in making.evaluations)])


def _bom(making: Making, site: Site) -> Bom:
    version, parent = making.version, making.parent
    model = _model(version, making.model.title, site)
    if parent is not None:
        model.pedigree = Pedigree(ancestors=[_model(parent, "", site)])
    files, data = [*_files(version)], [*_datasets(making), *_suites(making)]
    dependencies = [Dependency(each.bom_ref) for each in (*files, *data)]
    whole = Dependency(model.bom_ref, dependencies=[Dependency(each.bom_ref) for each in (*files, *data)])
    return Bom(
        components=[*files, *data],
        metadata=BomMetaData(
            component=model,
            tools=ToolRepository(components=[Component(type=ComponentType.APPLICATION, name="fleetloop")]),
            properties=[Property(name="fleetloop:installation", value=site.url)],
        ),
        dependencies=[whole, *dependencies],
    )


def _model(version: VersionItem, title: str, site: Site) -> Component:
    page = ExternalReference(
        type=ExternalReferenceType.OTHER, url=XsUri(f"{site.url}/versions/{version.content_digest}"), comment="its page"
    )
    told = {"label": version.label, "training": version.training, "created_by": version.created_by}
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=version.model,
        version=str(version.version),
        bom_ref=f"model:{version.content_digest}",
        description=title or None,
        hashes=[_sha256(version.content_digest)],
        external_references=[page],
        properties=[*_properties(told | version.card)],
    )


def _files(version: VersionItem) -> Iterator[Component]:
    for file in version.content["files"]:
        # Not as the component's media type: the library spells that so that its own strict schema refuses it.
        told = {name: file[name] for name in ("role", "media_type", "size_bytes")}
        yield Component(
            type=ComponentType.FILE,
            name=str(file["path"]),
            bom_ref=f"file:{file['path']}",
            hashes=[_sha256(str(file["sha256"]))],
            properties=[*_properties(told)],
        )


def _datasets(making: Making) -> Iterator[Component]:
    if making.dataset is not None:
        yield _data_component(_dataset_ref(making.dataset), making.dataset.name, making.dataset.digest)


def _suites(making: Making) -> Iterator[Component]:
    for suite in making.suites.values():
        yield _data_component(_suite_ref(suite), suite.name, suite.digest, str(suite.version))


def _data_component(ref: str, name: str, digest: str, version: str | None = None) -> Component:
    return Component(
        type=ComponentType.DATA, name=name, version=version or digest[:12], bom_ref=ref, hashes=[_sha256(digest)]
    )


def _dataset_ref(dataset: Curation) -> str:
    return f"dataset:{dataset.digest}"


def _suite_ref(suite: SuiteItem) -> str:
    return f"suite:{suite.digest}"


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _properties(told: Mapping[str, Any]) -> Iterator[Property]:
    for name, value in told.items():
        if value not in (None, ""):
            yield Property(name=f"fleetloop:{name}", value=_text(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _data(making: Making) -> dict[str, Json]:
    """Return what the library cannot say of data components, by their reference."""
    found = {_suite_ref(suite): _data_of(_about_suite(suite), {"tags": suite.tags}) for suite in making.suites.values()}
    if making.dataset is not None:
        told = {"query": making.dataset.query, "code": making.dataset.code}
        found[_dataset_ref(making.dataset)] = _data_of(_about_dataset(making.dataset), told)
    return found


def _data_of(says: str, told: Mapping[str, Any]) -> Json:
    properties = [{"name": f"fleetloop:{name}", "value": _text(value)} for name, value in told.items()]
    return {"data": [{"type": "dataset", "description": says, "contents": {"properties": properties}}]}


def _about_dataset(dataset: Curation) -> str:
    clips = dataset.clips
    return f"{clips.total} recordings of the field, {dataset.holdout} of them held out; {clips.size_bytes} bytes"


def _about_suite(suite: SuiteItem) -> str:
    return f"{suite.scenarios} scenarios of a {suite.kind} suite, simulated by {suite.simulator}; not trained on"


def _card(making: Making) -> Json:
    contract = making.model.contract
    data = [_dataset_ref(making.dataset)] if making.dataset else []
    data += [_suite_ref(suite) for suite in making.suites.values()]
    return {
        "modelParameters": {
            "task": making.model.title,
            "datasets": [{"ref": ref} for ref in data],
            "inputs": [{"format": _tensor(each)} for each in contract.inputs],
            "outputs": [{"format": _tensor(each)} for each in contract.outputs],
        },
        "quantitativeAnalysis": {"performanceMetrics": [*_metrics(making)][:MOST_METRICS]},
        "considerations": {"technicalLimitations": [*_limitations(making)]},
    }


def _tensor(tensor: Any) -> str:
    unit = f" in {tensor.unit}" if getattr(tensor, "unit", "") else ""
    return f"{tensor.name}: {tensor.dtype}{list(tensor.shape)}{unit}"


def _metrics(making: Making) -> Iterator[Json]:
    """Give means of what was simulated, suite by suite, and each figure of the gate that has bounds."""
    for one in making.evaluations:
        yield from _means(one)
    for part in making.gate.parts if making.gate else ():
        yield from _bounded(part)


def _means(one: EvaluationItem) -> Iterator[Json]:
    for name, mean in sorted(one.means.items()):
        yield {"type": f"mean {name}", "value": f"{mean:.6g}", "slice": f"{one.suite_name}, {one.done} scenarios"}


def _bounded(part: PartItem) -> Iterator[Json]:
    """Give a part's verdict, and its figures that come with a lower and an upper bound."""
    place = f"{part.suite}, {part.metric}" if part.metric else part.suite
    yield {"type": f"gate {part.rule}", "value": part.verdict.value, "slice": place}
    for name, value in part.figures.items():
        low, high = part.figures.get(f"{name}_low"), part.figures.get(f"{name}_high")
        if all(isinstance(each, int | float) for each in (value, low, high)):
            bounds = {"lowerBound": f"{low:.6g}", "upperBound": f"{high:.6g}"}
            kind = f"gate {part.rule} {name}"
            yield {"type": kind, "value": f"{value:.6g}", "slice": place, "confidenceInterval": bounds}


def _limitations(making: Making) -> Iterator[str]:
    gate = making.gate
    if gate is None:
        yield "No gate has judged this version."
        return
    yield f"The gate's verdict is {gate.verdict.value}: {gate.because}"[:DESCRIBED]
    classes = ", ".join(gate.device_classes)
    yield (
        f"The gate vouches for {classes} and for no other device class."
        if classes
        else ("The gate vouches for no device class.")
    )
    for part in gate.parts:
        if part.verdict is not Verdict.PASS:
            yield f"{part.suite} {part.rule}: {part.because}"[:DESCRIBED]
