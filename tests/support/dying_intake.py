"""`python -m tests.support.dying_intake URL DEVICE`: take a batch in, say so, wait to be killed before the commit."""

import asyncio
import json
import sys

from agents.protocol import v1 as wire
from control_plane.fleet import store
from control_plane.fleet.domain import DeviceState, Identity
from control_plane.kit.db import Database
from control_plane.telemetry import service
from tests.support.device import CLASS, window


async def main(url: str, device_id: str) -> None:
    batch = wire.TelemetryBatch.model_validate_json(json.dumps({"stream_id": "s1", "windows": [window(0)]}))
    async with Database(url).transaction() as session:
        device = await store.find_device(session, device_id)
        assert device is not None
        who = Identity(device_id, CLASS, "north", DeviceState.ACTIVE, device.key_sha256)
        await service.take_batch(session, who, batch, 60)
        print("written", flush=True)
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
