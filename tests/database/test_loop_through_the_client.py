"""docs/how-to/loop_through_the_client.md, block by block, against a served control plane with a small fleet."""

import asyncio
import contextlib
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from control_plane.kit.roles import Role
from tests.support import mcap
from tests.support.bundle import MODEL, bundle
from tests.support.device import enrol, event
from tests.support.live import serve
from tests.support.server import Server

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "loop_through_the_client.md"
TIMES = {"started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:10Z"}


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def what_training_wrote(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(MODEL))
    scenarios = [{"id": f"s{n}", "seed": n, "cluster": "", "tags": ["easy"]} for n in range(40)]
    suite = {"schema": "fleetloop.suite/v1", "workload": "test", "suite": "nominal", "kind": "nominal"}
    (folder / "suite.json").write_text(json.dumps(suite | {"simulator": "sim-1", "scenarios": scenarios}))
    for name, scale in (("first", 2.0), ("second", 3.0)):
        (folder / name).mkdir()
        for path, data in bundle(scale).items():
            (folder / name / path).write_bytes(data)


async def drive_and_collide(server: Server, content: str) -> None:
    """Let two devices run a version, and one of them collide and send what it recorded."""
    devices = [await enrol(server, f"sn-{number}") for number in range(2)]
    happened = event(0) | {"content_digest": content, "kind": "collision"}
    assert (await devices[0].telemetry(events=[happened])).status_code == 200
    data = mcap.recording()
    said = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data), "trigger": "collision"}
    said |= TIMES | {"content_digest": content, "event_id": happened["event_id"]}
    wanted = (await devices[0].post("recordings", said)).json()
    assert (await devices[0].http.put(wanted["upload_url"], content=data)).status_code == 201
    assert (await devices[0].send("POST", f"recordings/{said['sha256']}/complete")).json()["state"] == "have"


def run_block(code: str, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - the page is ours
    return printed.getvalue()


async def test_every_block_of_the_page_runs(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    what_training_wrote(tmp_path / "work")
    names: dict[str, Any] = {}
    async with serve(database_url, tmp_path / "home") as live:
        monkeypatch.setenv("FLEETLOOP_SERVER", live.url)
        monkeypatch.setenv("FLEETLOOP_TOKEN", live.server.tokens[Role.ADMIN])
        said = []
        for number, code in enumerate(blocks()):
            said.append(await asyncio.to_thread(run_block, code, names))
            if number == 1:
                await drive_and_collide(live.server, names["champion"].content_digest)
    told = "".join(said)
    assert "not_found - there is no model" in told
    assert "1 collisions, 1 recordings" in told
    assert "pass - " in told
    assert "halt" in told
    assert "True" in said[7]
    assert said[-1] == "['sn-0', 'sn-1']\n"
