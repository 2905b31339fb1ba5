"""A small fleet of devices without agents that does as the director says, and a person who approves."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from control_plane.kit.roles import Role
from control_plane.rollout import reconcile
from tests.support.device import Device, enrol
from tests.support.registry import register, release
from tests.support.server import Server

QUICK = {"stages": [{"fraction": 0.25, "min_exposure": 100, "must_prove": False}, {"fraction": 1.0}]}


@dataclass
class Fleet:
    server: Server
    devices: list[Device]
    contents: dict[str, str] = field(default_factory=dict)
    behaviour: dict[str, dict[str, int]] = field(default_factory=dict)

    async def cut(self, content: str) -> dict[str, Any]:
        made = await release(self.server, content)
        self.contents[made["digest"]] = content
        return made

    async def version(self, scale: float, **counts: int) -> dict[str, Any]:
        """Register a version whose devices report these events in every window."""
        made = await register(self.server, scale)
        self.behaviour[made["content_digest"]] = counts
        return made

    async def roll(self, release_digest: str, role: Role = Role.OPERATOR, **changes: Any) -> dict[str, Any]:
        body = {"release": release_digest, "plan": QUICK, "override_reason": "a test"} | changes
        made: dict[str, Any] = await self.server.ok("POST", "/rollouts", role, json=body)
        return made

    async def answer(self, subject: str, *, approves: bool = True, role: Role = Role.APPROVER) -> None:
        for review in (await self.server.ok("GET", "/reviews?state=open&limit=500"))["items"]:
            if review["subject"] == subject:
                body = {"approves": approves, "reason": "looked at it"}
                await self.server.ok("POST", f"/reviews/{review['id']}/answers", role, json=body)

    async def tick(self) -> None:
        await reconcile.tick(self.server.context)
        self.server.app.state.board.forget()

    async def live(self, phase: str = "committed") -> None:
        """Let every device check in and obey, and then drive for a while."""
        known = await self.server.ok("GET", "/releases")
        self.contents |= {item["digest"]: item["content_digest"] for item in known}
        await asyncio.gather(*(device.obey(self.contents, phase) for device in self.devices))
        await asyncio.gather(*(self._drive(device) for device in self.devices))

    async def _drive(self, device: Device) -> None:
        content = device.active["content_digest"] if device.active else ""
        await device.drive(100.0, **self.behaviour.get(content, {}))

    async def until(self, rollout: str, *phases: str, turns: int = 12) -> dict[str, Any]:
        """Tick and drive until the rollout has come to one of these phases."""
        for _ in range(turns):
            await self.tick()
            item: dict[str, Any] = await self.server.ok("GET", f"/rollouts/{rollout}")
            if item["phase"] in phases:
                return item
            await self.live()
        raise AssertionError(f"still {item['phase']}: {item['because']}")

    async def settle(self, version: dict[str, Any]) -> dict[str, Any]:
        """Bring the whole fleet to a version."""
        made = await self.cut(version["content_digest"])
        rollout = await self.roll(made["digest"])
        await self.answer(made["digest"])
        return await self.until(rollout["id"], "done")

    def running(self, content: str) -> list[Device]:
        return [device for device in self.devices if device.active and device.active["content_digest"] == content]


async def make_fleet(server: Server, devices: int = 8) -> Fleet:
    return Fleet(server, [await enrol(server, f"sn-{number}") for number in range(devices)])
