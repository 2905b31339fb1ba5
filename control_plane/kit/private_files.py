"""Owns writing a secret's file so that several processes that need it at once end up with one and the same."""

import os
import secrets
from pathlib import Path


def make_once(path: Path, data: bytes) -> None:
    """Write a file for this user's eyes only, whole or not at all; where it is there already, it stays."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)  # fails if another process was first: then what it wrote is ours too
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
