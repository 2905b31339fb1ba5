"""Where an installation lives on this machine."""

import os
from pathlib import Path


def default_home() -> Path:
    return Path(os.environ.get("FLEETLOOP_HOME", ".fleetloop"))


def people_folder(home: Path) -> Path:
    """Return where the keys of people lie whom `fleetloop up` made."""
    return home / "people"
