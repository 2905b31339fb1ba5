"""Bring a database to the newest schema, from code."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config

from control_plane.kit.db import must_answer


def alembic_config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def upgrade(url: str) -> None:
    """Run outside an event loop; safe to run twice.

    Raises:
        Invalid: this is no URL of a PostgreSQL.
        Unavailable: it does not answer, or does not let us in.
    """
    asyncio.run(must_answer(url))
    command.upgrade(alembic_config(url), "head")
