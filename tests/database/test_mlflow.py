"""A training's run in MLflow and its version here know of each other: against a real MLflow server."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from control_plane.kit.roles import Role
from flows.runners.mlflow import linked
from tests.support.browsing import signed_in
from tests.support.registry import register
from tests.support.rows import run
from tests.support.server import Server

MLFLOW = os.environ.get("FLEETLOOP_TEST_MLFLOW") or shutil.which("mlflow")
NEEDS_MLFLOW = pytest.mark.skipif(
    MLFLOW is None,
    reason="MLflow is not here: pip install mlflow elsewhere, FLEETLOOP_TEST_MLFLOW=/elsewhere/bin/mlflow",
)
TAGS = {"fleetloop.model_version": "amr@3", "fleetloop.model_version_url": "http://fleetloop.test/versions/abc"}
RUN = "0123456789abcdef0123456789abcdef"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    assert MLFLOW is not None
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [MLFLOW, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*command, *stores], stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 100
        try:
            while True:
                try:
                    httpx.get(f"{url}/health", trust_env=False).raise_for_status()
                    break
                except httpx.HTTPError:
                    assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
                    time.sleep(0.2)
            yield url
        finally:
            os.killpg(server.pid, 15)
            server.wait(20)


@NEEDS_MLFLOW
@pytest.mark.timeout(180)
def test_a_run_in_mlflow_is_told_what_became_of_it(mlflow: str) -> None:
    api = f"{mlflow}/api/2.0/mlflow"
    with httpx.Client(trust_env=False) as http:
        made = http.post(f"{api}/experiments/create", json={"name": "amr"}).raise_for_status().json()
        body = {"experiment_id": made["experiment_id"], "start_time": 0}
        started = http.post(f"{api}/runs/create", json=body).raise_for_status().json()["run"]["info"]["run_id"]
        said = linked({"mlflow_run_id": started}, TAGS, {"MLFLOW_TRACKING_URI": mlflow})
        assert said == {
            "mlflow_link": "both ways",
            "mlflow_run_url": f"{mlflow}/#/experiments/{made['experiment_id']}/runs/{started}",
        }
        tags = http.get(f"{api}/runs/get", params={"run_id": started}).json()["run"]["data"]["tags"]
        assert {each["key"]: each["value"] for each in tags}.items() >= TAGS.items()
        nobody = linked({"mlflow_run_id": "f" * 32}, TAGS, {"MLFLOW_TRACKING_URI": mlflow})
        assert nobody == {"mlflow_link": "MLflow was not told: runs/get answered 404"}


def test_without_a_run_or_an_address_nobody_is_asked() -> None:
    assert linked({}, TAGS, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}) == {}
    for address in ("", "sqlite:///x.db", "file:///x", "databricks"):
        assert linked({"mlflow_run_id": RUN}, TAGS, {"MLFLOW_TRACKING_URI": address}) == {}
    for strange in (7, "../../x", RUN.upper(), "x" * 5000):
        said = linked({"mlflow_run_id": strange}, TAGS, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"})
        assert said == {"mlflow_link": "mlflow_run_id is not 32 hex digits"}


def test_an_mlflow_that_is_away_costs_the_link_alone() -> None:
    said = linked({"mlflow_run_id": RUN}, TAGS, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"})
    assert said["mlflow_link"].startswith("MLflow was not told: ")
    assert "mlflow_run_url" not in said


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"run": {"info": {"experiment_id": "../x"}}}', b"x" * (5 << 20)])
def test_an_answer_that_is_nonsense_is_no_link(body: bytes) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization", ""))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    environment = {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.server_address[1]}",
        "MLFLOW_TRACKING_TOKEN": "secret",
    }
    said = linked({"mlflow_run_id": RUN}, TAGS, environment)
    server.shutdown()
    thread.join()
    server.server_close()
    assert said["mlflow_link"].startswith("MLflow was not told")
    assert "secret" not in json.dumps(said)
    assert asked == ["Bearer secret"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [("https://mlflow.example/#/experiments/1/runs/2", True), ("javascript:alert(1)", False), (7, False)],
)
async def test_the_page_of_a_version_leads_to_its_run(server: Server, said: object, shown: bool) -> None:
    ask = {"model": "times", "code": "c", "seed": 1}
    version = await register(server)
    training = await server.ok("POST", "/trainings", json=ask)
    report = {"state": "done", "report": {"mlflow_run_url": said}}
    await server.ok("POST", f"/trainings/{training['key']}/finish", json=report)
    await run(server, "update registry_version set training = :key", key=training["key"])
    page = await signed_in(server, Role.VIEWER)
    text = (await page.get(f"/versions/{version['content_digest']}")).text
    await page.aclose()
    assert ("in MLflow" in text) is shown
    assert "javascript:" not in text
