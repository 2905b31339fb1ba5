"""The floor of an agent: `python -m tests.bench.plain_gets URL PER_SECOND` fetches /healthz, and nothing else."""

import asyncio
import sys

import httpx


async def main() -> None:
    period_s = 1 / float(sys.argv[2])
    async with httpx.AsyncClient(base_url=sys.argv[1]) as http:
        while True:
            await http.get("/healthz")
            await asyncio.sleep(period_s)


if __name__ == "__main__":
    asyncio.run(main())
