"""Answers kept for a repeat: they go after a week, the oldest first and so many a pass."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from control_plane.kit import clock, outbox, repeats
from control_plane.kit.db import execute, rows
from tests.support.server import Server, open_server


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with open_server(database_url, tmp_path) as found:
        yield found


async def keep(server: Server, count: int, days: float) -> None:
    async with server.context.database.transaction() as session:
        await execute(
            session,
            """insert into kit_idempotency (name, body, answer, at)
               select 'n-' || cast(:days as text) || '-' || i, 'b', '{}', cast(:at as timestamptz) + i * interval '1 ms'
               from generate_series(1, :count) i""",
            days=str(days), count=count, at=clock.now() - timedelta(days=days),
        )  # fmt: skip


async def kept(server: Server) -> list[str]:
    async with server.context.database.transaction() as session:
        return [line["name"] for line in await rows(session, "select name from kit_idempotency order by at")]


async def test_only_what_is_older_than_a_week_goes(server: Server) -> None:
    await keep(server, 3, 7.01)
    await keep(server, 2, 6.9)
    forgetter = repeats.Forgetter(server.context.database)
    assert await forgetter.tick() == 3
    assert [name[:5] for name in await kept(server)] == ["n-6.9", "n-6.9"]
    assert await forgetter.tick() == 0  # it looks again in ten minutes


async def test_a_pass_is_bounded_and_takes_the_oldest(server: Server) -> None:
    await keep(server, 5, 8)
    await keep(server, 5, 9)
    async with server.context.database.transaction() as session:
        assert await repeats.forget(session, clock.now() - repeats.KEPT, most=5) == 5
    assert {name[:3] for name in await kept(server)} == {"n-8"}


async def test_passes_follow_each_other_while_there_is_more(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "MOST_A_PASS", 4)
    await keep(server, 6, 8)
    forgetter = repeats.Forgetter(server.context.database)
    assert [await forgetter.tick() for _ in range(3)] == [4, 2, 0]
    assert await kept(server) == []


async def test_the_outbox_forgets_what_was_done_a_month_ago_and_nothing_else(server: Server) -> None:
    database = server.context.database
    async with database.transaction() as session:
        await execute(session, "delete from kit_outbox")
        for topic in ("long", "lately", "never"):
            await outbox.emit(session, topic, {})
        done = "update kit_outbox set created_at = now() - interval '60 days', done_at = now() - cast(:ago as interval)"
        await execute(session, f"{done} where topic = 'long'", ago=timedelta(days=31))
        await execute(session, f"{done} where topic = 'lately'", ago=timedelta(days=29))
        await execute(session, "update kit_outbox set created_at = now() - interval '60 days' where topic = 'never'")
    assert await repeats.Forgetter(database, outbox.forget, outbox.KEPT).tick() == 1
    async with database.transaction() as session:
        left = await rows(session, "select topic from kit_outbox order by id")
    assert [line["topic"] for line in left] == ["lately", "never"]
