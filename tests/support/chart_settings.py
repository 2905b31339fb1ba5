"""The part of the chart's values.schema.json that follows from the control plane's settings.

Run to bring the file up to date: python -m tests.support.chart_settings
"""

import json
from pathlib import Path
from typing import Any, Final

from control_plane.kit.settings import Settings

CHART: Final = Path(__file__).parents[2] / "infra" / "helm" / "fleetloop"
SCHEMA: Final = CHART / "values.schema.json"
OURS: Final = {"home", "device_ca"}
"""Where things lie in the containers; the chart says it."""
NARROWER: Final = {
    "object_store": {"type": "string", "pattern": "^s3://[a-z0-9][a-z0-9.-]+$"},  # pods share no folder
    "public_url": {"type": "string", "pattern": "^https?://[^\\s\"'<>]+$"},
}


def is_secret(name: str) -> bool:
    """Whether a setting is kept in a Secret: a connection's URL holds a password."""
    return name.startswith("database_") or "SecretStr" in str(Settings.model_fields[name].annotation)


def plain_settings() -> dict[str, Any]:
    """Return the JSON Schema of each setting that values may give."""
    found = dict[str, Any]()
    for name, field in Settings.model_json_schema()["properties"].items():
        if name in OURS or is_secret(name):
            continue
        kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
        kept = {key: value for key, value in kinds[0].items() if key not in {"title", "default", "description"}}
        found[name] = NARROWER.get(name, kept) | {"description": field["description"]}
    return found


def main() -> None:
    schema = json.loads(SCHEMA.read_text())
    schema["properties"]["settings"]["properties"] = plain_settings()
    SCHEMA.write_text(json.dumps(schema, indent=1) + "\n")


if __name__ == "__main__":
    main()
