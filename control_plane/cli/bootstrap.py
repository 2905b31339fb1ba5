"""What a new installation needs before anybody can call it: a token for every role, in files only the owner reads."""

import asyncio
import os
from pathlib import Path

from control_plane.kit.auth import Role, create_token
from control_plane.kit.db import Database
from control_plane.kit.errors import Conflict

NAMES = {
    "admin": Role.ADMIN,
    "operator": Role.OPERATOR,
    "approver": Role.APPROVER,
    "pipeline": Role.PIPELINE,
    "viewer": Role.VIEWER,
}


def make_tokens(database_url: str, folder: Path) -> dict[str, str]:
    """Return a token for each role, making those that are missing."""
    return asyncio.run(_make(database_url, folder))


async def _make(database_url: str, folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    database, tokens = Database(database_url, pool_size=1), {}
    try:
        for name, role in NAMES.items():
            path = folder / f"{name}.token"
            tokens[name] = path.read_text().strip() if path.exists() else await _new(database, name, role, path)
    finally:
        await database.close()
    return tokens


async def _new(database: Database, name: str, role: Role, path: Path) -> str:
    try:
        async with database.transaction() as session:
            token = await create_token(session, name, role)
    except Conflict:
        # The database knows the name but the file is gone: give this folder a name of its own.
        async with database.transaction() as session:
            token = await create_token(session, f"{name}-{os.urandom(3).hex()}", role)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(token + "\n")
    return token
