"""Run events as they happen, from the outbox to a real receiver: each once, in its run's order, whatever is down."""

import json
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from control_plane.kit import outbox
from control_plane.kit.roles import Role
from control_plane.webhooks import service as webhooks
from control_plane.webhooks.domain import PATIENT_DELAY_S, Answer, State, weigh_patiently
from control_plane.webhooks.reconcile import Deliverer
from control_plane.worker import handlers_of
from tests.browser.seed import seed
from tests.support import openlineage
from tests.support.registry import put_model
from tests.support.rows import run, select
from tests.support.server import Server, open_server

TOKEN = "lineage-token"


@dataclass
class Receiver:
    """Takes events as Marquez does: 201 for one, or what it is told to answer; `took` are those it took."""

    url: str = ""
    status: int = 201
    took: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    tokens: Counter[str] = field(default_factory=Counter)
    asked: int = 0

    def kinds(self) -> Counter[tuple[str, str]]:
        return Counter((event["job"]["name"].partition(".")[0], event["eventType"]) for _, event in self.took)

    def by_run(self) -> dict[str, list[str]]:
        found = defaultdict[str, list[str]](list)
        for _, event in self.took:
            found[event["run"]["runId"]].append(event["eventType"])
        return dict(found)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver, lock = Receiver(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                receiver.asked += 1
                receiver.tokens[self.headers.get("Authorization", "")] += 1
                if receiver.status == 201:
                    receiver.took.append((self.headers["Fleetloop-Delivery"], json.loads(body)))
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Wide(ThreadingHTTPServer):
        request_queue_size = 64  # as many may come at once; the usual five would be turned away

    server = Wide(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/api/v1/lineage"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
async def server(database_url: str, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Server]:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    async with open_server(
        database_url, tmp_path, openlineage_url=receiver.url, openlineage_token_file=token
    ) as opened:
        yield opened


async def hand_on(server: Server) -> None:
    """Take all that waits in the outbox to the lines of deliveries."""
    while await outbox.dispatch(server.context.database, handlers_of(server.context)):
        pass
    wrong = await select(server, "select topic, error from kit_outbox where error is not null")
    assert wrong == []


async def deliver(server: Server) -> None:
    """Deliver what is due now, and what then comes next in its line."""
    deliverer = Deliverer(server.context)
    await run(server, "update webhook_delivery set next_at = now()")
    while await deliverer.tick():
        pass


async def waiting(server: Server) -> int:
    found = await select(server, "select count(*) as n from webhook_delivery where state = 'waiting'")
    return int(found[0]["n"])


async def asked_run(server: Server) -> str:
    await put_model(server)
    await server.ok("PUT", "/pipelines/p", json={"flow": "loop", "model": "times", "params": {"seed": 1}})
    made = await server.ok("POST", "/pipelines/p/runs", json={"because": "a test"})
    await run(server, "update pipeline_run set attempt = 1, state = 'submitted' where id = :id", id=made["id"])
    return str(made["id"])


async def test_a_loop_is_told_as_it_happens_by_openlineages_schemas(server: Server, receiver: Receiver) -> None:
    await seed(server.context, devices=6, history=2, canary=2)
    run_id = await asked_run(server)
    await server.ok("POST", f"/runs/{run_id}/finish", json={"attempt": 1, "state": "done", "result": {}})
    await hand_on(server)
    await deliver(server)
    assert await waiting(server) == 0
    assert sum(openlineage.check(event) for _, event in receiver.took) > len(receiver.took)
    kinds = receiver.kinds()
    assert {kind for kind, _ in kinds} >= {"run", "train", "evaluate", "gate", "promote"}
    assert {event for _, event in kinds} >= {"START", "COMPLETE"}
    for name, happened in receiver.by_run().items():
        assert happened[0] == "START", name
        assert len(set(happened)) == len(happened), name
    assert receiver.tokens == {f"Bearer {TOKEN}": receiver.asked}
    trained = [event for _, event in receiver.took if event["job"]["name"].startswith("train.")]
    ends = [event for event in trained if event["eventType"] == "COMPLETE"]
    assert any(out["name"].startswith("models/") for event in ends for out in event.get("outputs", []))


@pytest.mark.parametrize(
    ("path", "body", "event"),
    [
        ("finish", {"attempt": 1, "state": "failed", "failure": "out of memory"}, "FAIL"),
        ("cancel", {"reason": "the data are wrong"}, "ABORT"),
    ],
)
async def test_a_run_that_fails_or_is_cancelled_is_told_so(
    server: Server, receiver: Receiver, path: str, body: dict[str, Any], event: str
) -> None:
    run_id = await asked_run(server)
    await server.ok("POST", f"/runs/{run_id}/{path}", json=body)
    await hand_on(server)
    await deliver(server)
    assert list(receiver.by_run().values()) == [["START", event]]
    [_, (_, ended)] = receiver.took
    openlineage.check(ended)
    assert ended["run"]["facets"]["errorMessage"]["message"] in ("out of memory", "the data are wrong")


async def test_a_receiver_that_is_down_for_a_while_gets_everything_once(server: Server, receiver: Receiver) -> None:
    await seed(server.context, devices=6, history=2, canary=2)
    await hand_on(server)
    lined = {row["id"] for row in await select(server, "select id from webhook_delivery where line is not null")}
    receiver.status = 503
    for _ in range(5):  # more attempts than what disables a webhook
        await deliver(server)
    first = receiver.asked
    assert receiver.took == []
    assert await waiting(server) == len(lined)
    [held] = await select(server, "select active, failures from webhook where form = 'openlineage'")
    assert held["active"]
    assert held["failures"] > 25
    receiver.status = 201
    await deliver(server)
    left = await select(server, "select * from webhook_delivery where state <> 'delivered'")
    assert left == []
    assert Counter(name for name, _ in receiver.took) == dict.fromkeys(lined, 1)
    assert await waiting(server) == 0
    assert receiver.asked == first + len(lined)
    assert all(happened[0] == "START" for happened in receiver.by_run().values())
    assert await select(server, "select 1 from review where kind = 'webhook_disabled'") == []


async def test_an_end_waits_for_its_beginning_and_other_runs_for_neither(server: Server, receiver: Receiver) -> None:
    one, other = await asked_run(server), await asked_run(server)
    for name in (one, other):
        await server.ok("POST", f"/runs/{name}/finish", json={"attempt": 1, "state": "done", "result": {}})
    await hand_on(server)
    starts = "topic = 'openlineage.1.START'"
    [held, *_] = await select(server, f"select id, line from webhook_delivery where {starts} order by id")  # noqa: S608
    deliverer = Deliverer(server.context)
    later = "update webhook_delivery set next_at = now() + interval '1 hour' where id = :id"
    await run(server, later, id=held["id"])
    while await deliverer.tick():
        pass
    assert held["line"] not in receiver.by_run()
    assert list(receiver.by_run().values()) == [["START", "COMPLETE"]]
    await deliver(server)
    assert receiver.by_run()[held["line"]] == ["START", "COMPLETE"]


async def test_what_is_told_twice_has_the_same_name_and_an_end_brings_its_beginning(
    server: Server, receiver: Receiver
) -> None:
    run_id = await asked_run(server)
    await server.ok("POST", f"/runs/{run_id}/finish", json={"attempt": 1, "state": "done", "result": {}})
    # The worker that had the beginning died; the other one takes the end, and later both are there again.
    await run(server, "update kit_outbox set next_at = now() + interval '1 hour' where payload ->> 'event' = 'START'")
    await hand_on(server)
    await run(server, "update kit_outbox set next_at = now(), done_at = null where topic = 'lineage.event'")
    await hand_on(server)
    await deliver(server)
    assert [event["eventType"] for _, event in receiver.took] == ["START", "COMPLETE"]
    assert len({name for name, _ in receiver.took}) == 2


async def test_a_refused_event_does_not_hold_up_the_others(server: Server, receiver: Receiver) -> None:
    await asked_run(server)
    await hand_on(server)
    receiver.status = 422
    for _ in range(8):
        await deliver(server)
    assert await waiting(server) == 0
    receiver.status = 201
    await asked_run(server)
    await hand_on(server)
    await deliver(server)
    assert len(receiver.took) == 1


async def test_the_setting_s_webhook_is_nobody_s_to_change(server: Server, receiver: Receiver) -> None:
    await asked_run(server)
    await hand_on(server)
    assert await server.ok("GET", "/webhooks", Role.ADMIN) == []
    for method, path in (("GET", ""), ("DELETE", "?reason=x"), ("POST", "/test")):
        answer = await server.call(method, f"/webhooks/hook_openlineage{path}")
        assert answer.status_code == 404, (method, answer.text)
    async with server.context.database.transaction() as session:
        assert [each.family.name for each in await webhooks.measures(session)][1].endswith("deliveries_waiting")


async def test_a_token_file_that_is_away_is_a_delay(server: Server, receiver: Receiver, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.unlink()
    await asked_run(server)
    await hand_on(server)
    await deliver(server)
    [held] = await select(server, "select note from webhook_delivery")
    assert held["note"] == "FLEETLOOP_OPENLINEAGE_TOKEN_FILE: FileNotFoundError"
    assert receiver.asked == 0
    token.write_text("another")
    await deliver(server)
    assert receiver.tokens == {"Bearer another": 1}


async def test_without_the_setting_nothing_is_lined_up(database_url: str, tmp_path: Path) -> None:
    async with open_server(database_url, tmp_path) as server:
        await asked_run(server)
        await hand_on(server)
        assert await select(server, "select 1 from webhook_delivery") == []


def test_patience_is_bounded() -> None:
    away = Answer(None, "no answer", 1)
    assert weigh_patiently(away, 100, 500, 1.0).state is State.WAITING
    assert weigh_patiently(away, 100, 500, 1.0).disable is None
    assert weigh_patiently(away, 100, 500, 1.0).delay_s == PATIENT_DELAY_S
    assert weigh_patiently(away, 2500, 0, 0.0).state is State.FAILED
    assert weigh_patiently(Answer(401, "", 1), 9, 0, 0.0).state is State.WAITING
    assert weigh_patiently(Answer(400, "", 1), 8, 0, 0.0).state is State.FAILED
    assert weigh_patiently(Answer(201, "", 1), 9, 9, 0.0).state is State.DELIVERED
