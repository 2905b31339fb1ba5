"""Makes Prefect's own database beside ours, with the extension that its migrations need, unless it is there."""

import asyncio
from pathlib import Path

import asyncpg

URL = Path("/run/fleetloop-secrets/fleetloop_database_url").read_text().strip()


async def main() -> None:
    ours = await asyncpg.connect(URL)
    if not await ours.fetchval("select 1 from pg_database where datname = 'prefect'"):
        await ours.execute("create database prefect")
    await ours.close()
    theirs = await asyncpg.connect(URL.rsplit("/", 1)[0] + "/prefect")
    await theirs.execute("create extension if not exists pg_trgm")
    await theirs.close()


if __name__ == "__main__":
    asyncio.run(main())
