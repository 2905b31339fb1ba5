"""Factory metrics from exporters over real HTTP to the ledger: scraped, kept by the minute, charged to jobs, told."""

import asyncio
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.cli import connection
from control_plane.factory import reconcile
from control_plane.factory import service as factory
from control_plane.factory.domain import ExporterKind, read
from control_plane.factory.reconcile import MAX_BYTES, ScrapeError, Scraper, scrape
from control_plane.kit import clock
from control_plane.kit.roles import Role
from tests.support.browsing import signed_in
from tests.support.cli import fleetloop
from tests.support.exporters import FOLDER, Told, exporters
from tests.support.live import serve
from tests.support.rows import run, select
from tests.support.server import Server

NODE_EXPORTER = shutil.which("prometheus-node-exporter")
GPU = "GPU-00000000-aaaa-0000-0000-000000000000"
START = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def told() -> Iterator[Told]:
    with exporters() as made:
        yield made


class Time:
    """The clock of the server, which these tests move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = START
        monkeypatch.setattr(clock, "now", lambda: self.at)

    def pass_s(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


async def put(server: Server, *stated: tuple[str, str], **values: Any) -> Any:
    said = [{"kind": kind, "url": url} for kind, url in stated]
    body = {"backend": "slurm", "usd_per_hour": 1, "watts": 10, "usd_per_gpu_hour": 2, "gpu_watts": 400} | values
    return await server.ok("PUT", "/clusters/gpus", json=body | {"exporters": said})


async def turn(server: Server, scraper: Scraper) -> int:
    await run(server, "update factory_exporter set next_at = now()")
    return await scraper.tick()


def dcgm(joules: float, watts: float = 300) -> str:
    text = (FOLDER / "dcgm.txt").read_text()
    return text.replace("9000000000", f"{joules * 1000:.0f}").replace("} 300\n", f"}} {watts}\n")


def vllm(tokens: int) -> str:
    return (FOLDER / "vllm.txt").read_text().replace("} 1000.0", f"}} {tokens}.0")


async def test_a_cluster_says_tokens_joules_and_dollars(server: Server, told: Told, moved: Time) -> None:
    gpus, engine = told.say("/gpus", dcgm(9000)), told.say("/engine", vllm(0))
    await put(server, ("dcgm", gpus), ("vllm", engine))
    scraper = Scraper(server.context)
    for number in range(9):
        told.say("/gpus", dcgm(9000 + 4500 * number))
        told.say("/engine", vllm(1500 * number))
        assert await turn(server, scraper) == 2
        moved.pass_s(15)
    found = await server.ok("GET", "/clusters/gpus/meters?hours=0.1", Role.VIEWER)
    total = found["total"]
    assert total["tokens_out"] == pytest.approx(12_000)
    assert total["tokens_per_s"] == pytest.approx(100)
    assert total["gpu_energy_j"] == pytest.approx(36_000), "the second GPU's counter stood still"
    assert total["tokens_per_j"] == pytest.approx(1 / 3)
    assert total["power_w"] == pytest.approx(300)
    assert total["gpus"] == 2
    assert total["usd"] == pytest.approx((1 + 2 * 2) * 120 / 3600)
    assert total["usd_per_million_tokens"] == pytest.approx(total["usd"] / 0.012)
    assert [each["uptime"] for each in found["exporters"]] == [1.0, 1.0]
    assert sum(point["tokens_out"] or 0 for point in found["points"]) == pytest.approx(12_000)
    assert max(point["tokens_out"] or 0 for point in found["points"]) == pytest.approx(6000)


async def test_waits_are_told_by_quantiles(server: Server, told: Told, moved: Time) -> None:
    nothing = "process_start_time_seconds 1.7600000001e+09\n"
    await put(server, ("vllm", told.say("/engine", nothing)))
    scraper = Scraper(server.context)
    await turn(server, scraper)
    moved.pass_s(30)
    told.say("/engine", vllm(1000))
    await turn(server, scraper)
    total = (await server.ok("GET", "/clusters/gpus/meters"))["total"]
    assert total["first_token"]["p50"]["value"] == pytest.approx(0.1 + 0.15 * 2 / 6)
    assert total["between_tokens"]["p99"]["value"] == pytest.approx(0.05, rel=0.02)
    assert total["queue_s"] == pytest.approx(0.05)


async def test_an_exporter_that_is_away_is_told_and_holds_nobody_up(server: Server, told: Told, moved: Time) -> None:
    here, gone = told.say("/gpus", dcgm(9000)), told.say("/gone", "down", status=503)
    await put(server, ("dcgm", here), ("dcgm", gone))
    scraper = Scraper(server.context)
    for _ in range(3):
        assert await turn(server, scraper) == 1
        moved.pass_s(15)
    found = {each["url"]: each for each in (await server.ok("GET", "/clusters/gpus/meters"))["exporters"]}
    assert (found[gone]["uptime"], found[gone]["error"]) == (0.0, "answered 503")
    assert found[here]["uptime"] == 1.0
    told.say("/gone", dcgm(1))
    assert await turn(server, scraper) == 2
    after = {each["url"]: each for each in (await server.ok("GET", "/clusters/gpus/meters"))["exporters"]}
    assert (after[gone]["uptime"], after[gone]["error"]) == (0.25, "")


async def test_two_workers_count_nothing_twice(server: Server, told: Told, moved: Time) -> None:
    await put(server, ("vllm", told.say("/engine", vllm(0))))
    one, other = Scraper(server.context), Scraper(server.context)
    for number in range(1, 5):
        told.say("/engine", vllm(100 * number))
        await run(server, "update factory_exporter set next_at = now()")
        assert sum(await asyncio.gather(one.tick(), other.tick())) == 1
        [exporter] = await select(server, "select id from factory_exporter")
        late = read(vllm(999_999), ExporterKind.VLLM, moved.at.timestamp())
        async with server.context.database.transaction() as session:
            await factory.heard(session, exporter["id"], late, moved.at.timestamp())
        moved.pass_s(15)
    assert (await server.ok("GET", "/clusters/gpus/meters"))["total"]["tokens_out"] == pytest.approx(300)


async def test_exporters_stay_unless_they_are_stated_anew(server: Server, told: Told) -> None:
    url = told.say("/gpus", dcgm(1))
    await put(server, ("dcgm", url))
    plain = {"backend": "slurm", "usd_per_hour": 1, "watts": 1}
    kept = await server.ok("PUT", "/clusters/gpus", json=plain)
    assert kept["exporters"] == [{"kind": "dcgm", "url": url}]
    assert (await server.ok("GET", "/clusters"))[0]["exporters"] == kept["exporters"]
    [before] = await select(server, "select id from factory_exporter")
    await put(server, ("dcgm", url), ("vllm", f"{url}2"))
    assert before["id"] in {row["id"] for row in await select(server, "select id from factory_exporter")}
    assert (await put(server))["exporters"] == []
    assert await select(server, "select id from factory_exporter") == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://169.254.169.254/latest", "http://u:p@a/", "nonsense"])
async def test_only_admins_state_exporters_and_only_where_one_may_be(server: Server, url: str) -> None:
    body = {"backend": "slurm", "usd_per_hour": 1, "watts": 1, "exporters": [{"kind": "dcgm", "url": url}]}
    assert (await server.call("PUT", "/clusters/gpus", json=body)).status_code == 422
    body["exporters"] = [{"kind": "dcgm", "url": "http://127.0.0.1:1/metrics"}]
    for role in set(Role) - {Role.ADMIN}:
        assert (await server.call("PUT", "/clusters/gpus", role, json=body)).status_code == 403


async def test_a_scrape_goes_nowhere_else_and_is_bounded(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = told.say("/secret", "a 1\n")
    cases = {
        told.say("/moved", "", status=302, Location=secret): "redirects",
        told.say("/packed", "x", Content_Encoding="gzip"): "compressed",
        told.say("/large", "x" * (MAX_BYTES + 1)): "8 MiB",
        "http://127.0.0.1:1/metrics": "ConnectError",
    }
    for url, words in cases.items():
        with pytest.raises(ScrapeError, match=words):
            await scrape(url)
    assert "/secret" not in {path for path, _ in told.asked}

    async def inside(_: str, __: int) -> list[str]:
        return ["127.0.0.1", "169.254.169.254"]

    with pytest.raises(ScrapeError, match=r"169\.254\.169\.254"):
        await scrape("http://exporter.example:9400/metrics", inside)

    async def never(_: str, __: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(reconcile, "SCRAPE_S", 0.05)
    with pytest.raises(ScrapeError, match="no whole answer"):
        await scrape("http://exporter.example:9400/metrics", never)


async def ran(server: Server, moved: Time, *, key: str = "train-1", gpu: str = GPU, seconds: float = 120) -> None:
    spec = {"command": ["x"], "timeout_s": 900, "gpus": 1}
    job = {"key": key, "kind": "train", "cluster": "gpus", "subject": "t1", "spec": spec}
    await server.ok("POST", "/jobs", json=job)
    held = {"holder": "w", "node": "node1.example", "gpu_ids": [gpu]}
    await server.ok("POST", f"/jobs/{key}/attempts", json=held)
    moved.pass_s(seconds)
    done = {"attempt": 1, "holder": "w", "outcome": "failed", "failure": "as wished"}
    used = {"wall_s": seconds, "cpu_s": 0, "gpu_s": seconds}
    await server.ok("POST", f"/jobs/{key}/finish", json=done | used)


async def watch(server: Server, told: Told, moved: Time, seconds: int, watts: float = 250) -> None:
    """Let a GPU take so much power for so long, scraped every 15 s."""
    scraper = Scraper(server.context)
    begun = (moved.at - START).total_seconds()
    for passed in range(0, seconds + 1, 15):
        told.say("/gpus", dcgm(9000 + watts * (begun + passed), watts))
        await turn(server, scraper)
        moved.pass_s(15)


@pytest.mark.parametrize("gpu", [GPU, "0"])
async def test_a_job_is_charged_what_its_gpu_took(server: Server, told: Told, moved: Time, gpu: str) -> None:
    """By UUID, and by its number on the machine, whose name one says in full and the other not."""
    await put(server, ("dcgm", told.say("/gpus", dcgm(9000))))
    await watch(server, told, moved, 600)
    finished = moved.at
    moved.at = START + timedelta(seconds=60)
    await ran(server, moved, gpu=gpu)
    before = await server.ok("GET", "/jobs/train-1")
    assert (before["energy_j"], before["energy_is_estimate"]) == (400 * 120, True)
    moved.at = finished
    async with server.context.database.transaction() as session:
        assert await factory.settle_uses(session, clock.now()) == 1
        assert await factory.settle_uses(session, clock.now()) == 0
    after = await server.ok("GET", "/jobs/train-1")
    assert after["energy_j"] == pytest.approx(250 * 120)
    assert after["energy_is_estimate"] is False
    [use] = (await server.ok("GET", "/jobs/train-1/meters"))["uses"]
    assert (use["energy_j"], use["busy"], use["covered"]) == pytest.approx((250 * 120, 0.8, 1.0))
    [line] = (await server.ok("GET", "/ledger?by=subject"))["lines"]
    assert (line["name"], line["energy_is_estimate"]) == ("t1", False)
    assert line["energy_j"] == pytest.approx(30_000)


async def test_what_was_not_measured_stays_an_estimate_and_says_why(server: Server, told: Told, moved: Time) -> None:
    await put(server, ("dcgm", told.say("/gpus", dcgm(9000))))
    await watch(server, told, moved, 60)
    moved.at = START
    await ran(server, moved, key="half", seconds=120)
    await ran(server, moved, key="strange", gpu="GPU-ffffffff", seconds=30)
    moved.pass_s(2000)
    async with server.context.database.transaction() as session:
        assert await factory.settle_uses(session, clock.now()) == 2
    [half] = (await server.ok("GET", "/jobs/half/meters"))["uses"]
    assert half["note"].startswith("only")
    assert half["energy_j"] is None
    [strange] = (await server.ok("GET", "/jobs/strange/meters"))["uses"]
    assert strange["note"] == "no exporter of the cluster tells of these GPUs"
    assert (await server.ok("GET", "/jobs/half"))["energy_j"] == 400 * 120


async def test_two_jobs_on_one_gpu_are_not_told_apart(server: Server, told: Told, moved: Time) -> None:
    await put(server, ("dcgm", told.say("/gpus", dcgm(9000))))
    await watch(server, told, moved, 600)
    finished = moved.at
    moved.at = START + timedelta(seconds=60)
    await ran(server, moved, key="one")
    moved.pass_s(-60)
    await ran(server, moved, key="two")
    moved.at = finished
    async with server.context.database.transaction() as session:
        assert await factory.settle_uses(session, clock.now()) == 2
    for key, other in (("one", "two"), ("two", "one")):
        [use] = (await server.ok("GET", f"/jobs/{key}/meters"))["uses"]
        assert use["note"] == f"job {other} held the same GPU at the same time"


async def test_old_minutes_are_forgotten(server: Server, told: Told, moved: Time) -> None:
    await put(server, ("vllm", told.say("/engine", vllm(0))))
    for number in range(3):
        told.say("/engine", vllm(number))
        await turn(server, Scraper(server.context))
        moved.pass_s(15)
    assert await select(server, "select 1 from factory_meter")
    moved.pass_s(86_400 * (server.context.settings.retention_meters_days + 1))
    await Scraper(server.context).tick()
    assert {row["at"] for row in await select(server, "select at from factory_meter")} <= {
        moved.at.replace(second=0, microsecond=0)
    }


async def test_our_own_metrics_tell_of_jobs_and_exporters(server: Server, told: Told, moved: Time) -> None:
    await put(server, ("dcgm", told.say("/gpus", dcgm(9000))))
    moved.at = datetime.now(UTC)
    await ran(server, moved)
    await server.ok(
        "POST",
        "/jobs",
        json={"key": "q", "kind": "train", "cluster": "gpus", "spec": {"command": ["x"], "timeout_s": 9}},
    )
    await run(server, "update factory_job set created_at = now() - interval '100 s' where key = 'q'")
    async with server.context.database.transaction() as session:
        found = {each.family.name: dict(each.values) for each in await factory.measures(session)}
    assert found["fleetloop_jobs"] == {("gpus", "failed"): 1, ("gpus", "queued"): 1}
    assert found["fleetloop_jobs_queue_oldest_seconds"]["gpus",] == pytest.approx(100, abs=30)
    assert found["fleetloop_jobs_wall_seconds"]["gpus", "train"] == 120
    assert found["fleetloop_jobs_energy_joules"]["gpus", "train"] == 48_000
    assert found["fleetloop_jobs_cost_dollars"]["gpus", "train"] == pytest.approx(3 * 120 / 3600)
    [(labels, _)] = found["fleetloop_exporter_silent_seconds"].items()
    assert labels == ("gpus", told.url.removeprefix("http://"))


@pytest.mark.skipif(NODE_EXPORTER is None, reason="prometheus-node-exporter is not here: apt-get install it")
async def test_the_real_node_exporter_is_read(server: Server) -> None:
    assert NODE_EXPORTER is not None
    with exporters() as free:
        port = int(free.url.rpartition(":")[2]) + 1
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        NODE_EXPORTER, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error", stderr=quiet
    )
    try:
        url = f"http://127.0.0.1:{port}/metrics"
        deadline = time.monotonic() + 30
        async with httpx.AsyncClient(trust_env=False) as http:
            while True:
                try:
                    await http.get(url)
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
        await put(server, ("node", url))
        scraper = Scraper(server.context)
        assert await turn(server, scraper) == 1
        end = time.process_time() + 0.5
        while time.process_time() < end:
            pass  # so that a processor is busy
        assert await turn(server, scraper) == 1
        found = await server.ok("GET", "/clusters/gpus/meters")
        assert found["exporters"][0]["started_at"] is not None
        assert 0 < found["total"]["cpu_busy"] <= 1
    finally:
        process.terminate()
        await process.wait()


async def test_the_page_and_the_commands_of_the_how_to_tell_it(
    database_url: str, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "factory-metrics.md").read_text()
    commands = [shlex.split(line) for line in re.findall(r"^fleetloop (.*)$", page, re.MULTILINE)]
    assert len(commands) == 4
    for path in ("dcgm", "node"):
        told.say(f"/{path}", (FOLDER / f"{path}.txt").read_text())
    hostile = told.say("/vllm", "<script>alert(1)</script>{")
    places = {"9400/metrics": "/dcgm", "8000/metrics": "/vllm", "9100/metrics": "/node"}
    async with serve(database_url, tmp_path) as live:
        monkeypatch.setenv("FLEETLOOP_SERVER", live.url)
        monkeypatch.setenv("FLEETLOOP_TOKEN", live.server.tokens[Role.ADMIN])
        words = list(commands[0])
        for old, new in places.items():
            words = [each.replace(f"http://node1:{old}", f"{told.url}{new}") for each in words]
        assert (await asyncio.to_thread(fleetloop, *words)).status == 0
        scraper = Scraper(live.server.context)
        for number in range(2):
            told.say("/dcgm", dcgm(9000 + 300 * number))
            assert await turn(live.server, scraper) == 2
        await live.server.ok(
            "POST",
            "/jobs",
            json={"key": "JOB", "kind": "train", "cluster": "gpus", "spec": {"command": ["x"], "timeout_s": 9}},
        )
        said = [await asyncio.to_thread(fleetloop, *each) for each in commands[1:]]
        assert [each.status for each in said] == [0, 0, 0], said
        assert "GPUs" in said[0].out
        assert "not Prometheus' text format" in said[0].out
        bad = await asyncio.to_thread(fleetloop, *words[:-1], "dcgm=http://169.254.169.254/")
        assert bad.status == 2
        assert "no place for an exporter" in bad.err
        connection.close()
        seen = await signed_in(live.server, Role.VIEWER)
        shown = (await seen.get("/ledger")).text
        await seen.aclose()
    assert "Measured on gpus" in shown
    assert hostile.removeprefix("http://").removesuffix("/vllm") in shown
    assert "<script>alert" not in shown
    assert "Power of GPUs on gpus" in shown
