"""Every route of the application, from its own router: a new one is found without anybody naming it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts


@dataclass(frozen=True, slots=True)
class Way:
    method: str
    path: str

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_page(self) -> bool:
        return not self.path.startswith(("/api/", "/device/", "/objects/", "/static/", "/healthz", "/readyz"))

    def filled(self, values: dict[str, str], otherwise: str = "nobody") -> str:
        """Return the path with its parameters filled in."""
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: values.get(found[1], otherwise), self.path)


def ways(app: FastAPI) -> list[Way]:
    return sorted(set(_all(app)), key=lambda way: (way.path, way.method))


def _all(app: FastAPI) -> Iterator[Way]:
    for found in iter_route_contexts(app.routes):
        for method in set(found.methods or ()) - {"HEAD"}:
            yield Way(method, str(found.path))
