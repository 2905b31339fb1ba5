"""A gate's policy as a file: the `gate:` mapping of a workload.yaml, or only that mapping."""

from pathlib import Path
from typing import Any

import typer
import yaml

MOST_BYTES = 1 << 20


def read_policy(path: Path) -> dict[str, Any]:
    """Read a policy; a whole workload.yaml will do.

    Raises:
        BadParameter: there is none in this file.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise typer.BadParameter(f"{path} is no policy: it has over {MOST_BYTES} bytes")
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from error
    if isinstance(found, dict) and isinstance(found.get("gate"), dict):
        found = found["gate"]
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{path} holds no mapping of gate rules")
    return found
