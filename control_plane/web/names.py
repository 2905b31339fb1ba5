"""Versions by their content digest, so that pages can say “v3” and always give it the same colour."""

from dataclasses import dataclass

from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem, VersionItem
from control_plane.telemetry.schemas import Rate
from control_plane.web.edge import PageCall

SERIES = 7
RATE_S = 5.0
SCALE = {"distance_m": (1000.0, "km"), "duration_s": (3600.0, "hour")}


@dataclass(frozen=True, slots=True)
class Names:
    """All models and their versions."""

    models: dict[str, ModelItem]
    versions: dict[str, VersionItem]

    def label(self, digest: str | None) -> str:
        if digest is None:
            return "no model"
        found = self.versions.get(digest)
        if found is None:
            return digest[:10]
        return f"v{found.version}" if len(self.models) == 1 else f"{found.model} v{found.version}"

    def series(self, digest: str | None) -> str:
        found = self.versions.get(digest or "")
        return f"s{(found.version - 1) % SERIES}" if found else "sx"


def incident_kinds(names: Names) -> set[str]:
    """Return the kinds of field event that any model's contract calls an incident."""
    return {kind for model in names.models.values() for kind, rule in model.events.items() if rule.incident}


async def load_names(call: PageCall) -> Names:
    models = {model.name: model for model in await registry.list_models(call.session)}
    found = [version for name in models for version in await registry.list_versions(call.session, name)]
    return Names(models, {version.content_digest: version for version in reversed(found)})


async def rate_of(call: PageCall, version: VersionItem) -> Rate:
    """Return the field's incident rate of a version, at most some seconds old."""
    key = ("rate", version.content_digest)
    return await call.desk.cache.get(
        key, RATE_S, lambda: registry.field_rate(call.session, version.model, version.content_digest)
    )
