"""Examples in the client's docstrings run, against a served control plane; both clients have every call of the API."""

import asyncio
import doctest
import inspect
from pathlib import Path
from typing import Any

import httpx
import pytest

import control_plane.client
from control_plane.client import AsyncClient, Client, ClientError, ask, awaiting, blocking, files
from control_plane.client import errors as kinds
from control_plane.client.calls import Calls
from control_plane.fleet.schemas import EnrolmentTokenCreate
from control_plane.kit.roles import Role
from tests.support.device import enrol
from tests.support.live import serve
from tests.support.server import Server

CODES = {
    "404 not_found": kinds.NotFound,
    "409 conflict": kinds.Conflict,
    "422 invalid": kinds.Invalid,
    "401 unauthenticated": kinds.Unauthenticated,
    "403 forbidden": kinds.Forbidden,
    "403 gate_failed": kinds.Refused,
    "413 too_large": kinds.TooLarge,
    "429 too_many_requests": kinds.TooMany,
    "503 unavailable": kinds.Unavailable,
    "0 unreachable": kinds.Unavailable,
    "418 teapot": ClientError,
}


def examples(module: Any) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


async def fleet_of_two(server: Server) -> None:
    for number in range(2):
        await enrol(server, f"sn-{number}")


@pytest.mark.parametrize("module", [blocking, awaiting, files], ids=lambda module: module.__name__)
async def test_examples_run(module: Any, database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "log.mcap"
    path.write_bytes(b"x" * 1000)
    async with serve(database_url, tmp_path / "home") as live:
        await fleet_of_two(live.server)
        names = {"server": live.url, "token": live.server.tokens[Role.PIPELINE], "path": path, "asyncio": asyncio}
        runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
        found = examples(module)
        assert found
        for test in found:
            test.globs |= names | vars(control_plane.client)
            await asyncio.to_thread(runner.run, test, None, None, False)
    assert runner.summarize(verbose=False).failed == 0


def test_both_clients_have_every_call() -> None:
    calls = [name for kind in Calls.__mro__ for name in vars(kind) if not name.startswith("_")]
    assert len(calls) > 80
    for name in calls:
        assert inspect.getdoc(getattr(Client, name)), name
        assert getattr(AsyncClient, name) is getattr(Client, name), name


@pytest.mark.parametrize("text", CODES)
def test_every_failure_is_of_its_kind(text: str) -> None:
    status, code = text.split()
    found = kinds.problem_of(int(status), code, "why")
    assert type(found) is CODES[text]
    assert (found.status, found.code, found.detail) == (int(status), code, "why")


def test_what_a_proxy_says_is_a_failure_too() -> None:
    found = kinds.read_problem(httpx.Response(502, text="<h1>bad gateway</h1>"))
    assert (type(found), found.code, found.detail) == (kinds.Unavailable, "http_error", "<h1>bad gateway</h1>")
    assert kinds.read_problem(httpx.Response(429, headers={"Retry-After": "3"}, text="")).retry_after_s == 3


async def test_lists_come_page_by_page_and_creates_happen_once(
    database_url: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """A lost answer is asked for again: with the idempotency key of the first try nothing is made twice."""
    monkeypatch.setattr(ask, "PAGE", 1)
    async with serve(database_url, tmp_path / "home") as live:
        await fleet_of_two(live.server)
        client = live.client(patience_s=5)
        assert len(await asyncio.to_thread(lambda: list(client.list_devices()))) == 2
        send, lost = client.http.request, []

        def lossy(*words: Any, **values: Any) -> httpx.Response:
            answer = send(*words, **values)
            if not lost:
                lost.append(answer.json())
                raise httpx.ReadError("the connection broke")
            return answer

        monkeypatch.setattr(client.http, "request", lossy)
        made = await asyncio.to_thread(client.create_enrolment_token, EnrolmentTokenCreate(device_class="cart"))
        client.close()
    assert made.token == lost[0]["token"]


async def test_the_other_client_says_the_same_of_a_failure(database_url: str, tmp_path: Path) -> None:
    async with serve(database_url, tmp_path / "home") as live, AsyncClient(live.url, "wrong") as client:
        with pytest.raises(kinds.Unauthenticated):
            await client.list_models()
    async with AsyncClient("http://127.0.0.1:9", "any", patience_s=0.3) as client:
        with pytest.raises(kinds.Unavailable) as unreachable:
            await client.list_models()
    assert unreachable.value.status == 0
