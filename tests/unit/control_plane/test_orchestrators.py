"""One small contract that every orchestrator meets, and what only Prefect's adapter must know."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from control_plane.kit.errors import Unavailable
from control_plane.pipelines.reconcile import (
    NoOrchestrator,
    Orchestrator,
    PrefectOrchestrator,
    SubprocessOrchestrator,
)
from tests.support.orchestrator import FakeOrchestrator, FakePrefect

PARAMS: dict[str, Any] = {"run_id": "run_1", "attempt": 1, "params": {}, "server": "http://127.0.0.1:1"}


@asynccontextmanager
async def prefect(api: FakePrefect) -> AsyncIterator[PrefectOrchestrator]:
    with api.serve() as url:
        made = PrefectOrchestrator(url)
        yield made
        await made.close()


@pytest.fixture(params=["fake", "subprocess", "prefect"])
async def orchestrator(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    if request.param == "prefect":
        async with prefect(FakePrefect()) as adapter:
            yield adapter
        return
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").touch()
    (tmp_path / "flows" / "run.py").write_text("import time\ntime.sleep(60)\n")
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    made: Any = FakeOrchestrator() if request.param == "fake" else SubprocessOrchestrator(environment)
    yield made
    await made.close()


async def test_the_contract_of_an_orchestrator(orchestrator: Orchestrator) -> None:
    assert await orchestrator.get("nobody") is None
    first = await orchestrator.submit("loop", PARAMS, "key-1")
    assert await orchestrator.submit("loop", PARAMS, "key-1") == first
    second = await orchestrator.submit("loop", PARAMS | {"attempt": 2}, "key-2")
    assert second != first
    assert sorted(await orchestrator.list()) == sorted([first, second])
    assert await orchestrator.get(first) in ("SCHEDULED", "PENDING", "RUNNING")
    await orchestrator.cancel(first)
    for _ in range(100):
        if await orchestrator.list() == [second]:
            break
        await asyncio.sleep(0.05)
    assert await orchestrator.list() == [second]
    assert await orchestrator.get(first) not in ("SCHEDULED", "PENDING", "RUNNING")
    await orchestrator.cancel(first)


async def test_nobody_starts_flows_where_nobody_is_configured() -> None:
    nobody = NoOrchestrator()
    with pytest.raises(Unavailable):
        await nobody.submit("loop", PARAMS, "k")
    assert (await nobody.get("x"), await nobody.list()) == (None, [])


async def test_prefect_gets_parameters_and_key() -> None:
    api = FakePrefect()
    async with prefect(api) as adapter:
        made = await adapter.submit("loop", PARAMS, "key-1")
        with pytest.raises(Unavailable):
            await adapter.submit("unknown", PARAMS, "key-2")
    run = api.runs["key-1"]
    assert (run["id"], run["parameters"], run["name"]) == (made, PARAMS, "run_1-1")


@pytest.mark.parametrize("answer", [(500, b""), (502, b"<html>"), (200, b"<html>"), (429, b"")], ids=str)
async def test_whatever_stands_for_prefect_is_unavailable(answer: tuple[int, bytes]) -> None:
    async with prefect(FakePrefect(answer=answer)) as adapter:
        calls = (adapter.submit("loop", PARAMS, "k"), adapter.get("404-0"), adapter.list())
        for call in calls:
            with pytest.raises(Unavailable):
                await call


async def test_a_prefect_that_is_not_there_is_unavailable() -> None:
    adapter = PrefectOrchestrator("http://127.0.0.1:9/api")
    with pytest.raises(Unavailable):
        await adapter.submit("loop", PARAMS, "k")
    await adapter.close()
