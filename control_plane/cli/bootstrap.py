"""What a new installation needs before anybody can call it: tokens and keys, in files only the owner reads."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from control_plane.cli.home import people_folder
from control_plane.kit.auth import create_token
from control_plane.kit.db import Database
from control_plane.kit.errors import Conflict
from control_plane.kit.roles import Role
from control_plane.kit.signing import load_signer
from control_plane.registry import service as registry
from control_plane.registry.service import KeyPlan

NAMES = {
    "admin": Role.ADMIN,
    "operator": Role.OPERATOR,
    "approver": Role.APPROVER,
    "pipeline": Role.PIPELINE,
    "viewer": Role.VIEWER,
}


def make_tokens(database_url: str, folder: Path) -> dict[str, str]:
    """Return a token for each role, making those that are missing."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths = {name: folder / f"{name}.token" for name in NAMES}
    missing = {name: role for name, role in NAMES.items() if not paths[name].exists()}
    for name, token in asyncio.run(_make(database_url, missing)).items():
        with os.fdopen(os.open(paths[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(token + "\n")
    return {name: path.read_text().strip() for name, path in paths.items()}


async def _make(database_url: str, roles: dict[str, Role]) -> dict[str, str]:
    database = Database(database_url, pool_size=1)
    try:
        return {name: await _new(database, name, role) for name, role in roles.items()}
    finally:
        await database.close()


async def _new(database: Database, name: str, role: Role) -> str:
    try:
        async with database.transaction() as session:
            return await create_token(session, name, role)
    except Conflict:
        # The database knows the name but the file is gone: give this folder a name of its own.
        async with database.transaction() as session:
            return await create_token(session, f"{name}-{os.urandom(3).hex()}", role)


APPROVERS = ("approver", "operator")


def make_keys(home: Path) -> None:
    """Make a key per role and the first root of trust, unless they are there.

    On one machine they all lie in this home, also those of the two people. `docs/runbooks/keys.md` says how to keep
    the offline ones elsewhere.
    """
    folder = home / "keys"
    if registry.has_keys(folder):
        return
    people = {name: load_signer(people_folder(home), name).public_hex for name in APPROVERS}
    plan = KeyPlan(approvers=people, approval_threshold=1, warned_threshold=2)
    registry.init_keys(folder, datetime.now(UTC), plan)
