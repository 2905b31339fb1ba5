"""Makes this installation's secrets at its first start, each in a file that only the containers' user reads."""

import os
import secrets
from pathlib import Path

DATABASE = Path("/run/fleetloop-secrets")
STORE = Path("/run/fleetloop-store")


def keep(path: Path, text: str) -> None:
    """Write a file whole or not at all, unless it is there."""
    if path.exists():
        return
    new = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def main() -> None:
    keep(DATABASE / "postgres_password", secrets.token_hex(32))
    password = (DATABASE / "postgres_password").read_text()
    keep(DATABASE / "fleetloop_database_url", f"postgresql://fleetloop:{password}@postgres/fleetloop")
    keep(DATABASE / "prefect_database_url", f"postgresql+asyncpg://fleetloop:{password}@postgres/prefect")
    keep(STORE / "keys", f"{secrets.token_hex(10)}\n{secrets.token_hex(20)}\n")
    access, secret = (STORE / "keys").read_text().split()
    keep(STORE / "credentials", f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")


if __name__ == "__main__":
    main()
