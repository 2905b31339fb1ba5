"""The chart as Helm 4 renders it: helm-python-sdk carries Helm's own library, so no binary and no cluster is needed."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chart_settings import CHART

Document = dict[str, Any]
VALUES = {
    "default": None,
    "minimal": CHART / "ci" / "minimal.yaml",
    "everything": CHART / "ci" / "everything.yaml",
    "production": CHART / "values-production.yaml",
    "aws": CHART / "ci" / "aws.yaml",
}
LIBRARY = "no wheel of helm-python-sdk for this machine: the chart is not rendered"
POD_KINDS = ("Deployment", "Job")


def values_of(name: str) -> Document:
    path = VALUES[name]
    return {} if path is None else yaml.safe_load(path.read_text())


def render(values: Document, name: str = "fleetloop", namespace: str = "production") -> list[Document]:
    """Return every object that an installation with these values would have, hooks too."""
    helm = pytest.importorskip("helm_python", reason=LIBRARY)
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        texts: dict[str, str] = chart.render(values, name=name, namespace=namespace)
    found = [each for path, text in texts.items() if path.endswith(".yaml") for each in yaml.safe_load_all(text)]
    return [each for each in found if each]


@cache
def _rendered(name: str) -> str:
    return json.dumps(render(values_of(name)))


def rendered(name: str) -> list[Document]:
    """Return the objects of one of the values files that come with the chart."""
    found: list[Document] = json.loads(_rendered(name))
    return found


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    return [each for each in documents if each["kind"] in kinds]


def pods(documents: list[Document]) -> list[Document]:
    """Return the pod templates, each with metadata and spec."""
    return [each["spec"]["template"] for each in of_kind(documents, *POD_KINDS)]


def containers(pod: Document) -> list[Document]:
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def relative(path: Path) -> str:
    return str(path.relative_to(CHART.parents[2]))
