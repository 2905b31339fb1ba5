"""Our images, run: what they hold, who they are, and that each does its work."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from packaging.utils import canonicalize_name

from control_plane.kit import clock
from control_plane.kit.certificates import load_authority
from control_plane.migrations.upgrade import upgrade
from tests.conftest import with_database
from tests.contract.test_images import pins
from tests.kit.objects.servers import RGW_OPTIONS
from tests.support import docker
from tests.support.again import passed

ROOT = Path(__file__).parents[2]
LIST = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"

pytestmark = [pytest.mark.usefixtures("containers"), pytest.mark.timeout(300)]


def within(image: str, *command: str) -> str:
    options = ["--rm", "--read-only", "--network", "none", "--entrypoint", command[0]]
    done = subprocess.run(
        ["docker", "run", *options, image, *command[1:]], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "own"), [("server", "fleetloop"), ("agent", "fleetloop-agent")])
def test_an_image_holds_exactly_what_is_pinned_and_is_nobody(name: str, own: str) -> None:
    found = {
        canonicalize_name(key): value
        for key, value in json.loads(within(f"fleetloop/{name}", "python3", "-c", LIST)).items()
    }
    assert found.pop(own)
    assert found == pins(name)
    assert within(f"fleetloop/{name}", "id", "-u").strip() == "10001"


def test_s3_passes_the_conformance_suite() -> None:
    access, secret = "containers", "containers-secret-key"
    options = " ".join(f"--{name.replace('_', '-')}={value}" for name, value in RGW_OPTIONS.items())
    keys = {"S3_ACCESS_KEY": access, "S3_SECRET_KEY": secret, "CEPH_ARGS": options}
    with docker.running("fleetloop/s3", 7480, env=keys) as port:
        given = {
            "FLEETLOOP_TEST_S3_ENDPOINT": f"http://{docker.LOOPBACK}:{port}",
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "FLEETLOOP_TEST_S3_CONFIGURED": "yes",
        }
        files = ("tests/kit/objects/test_conformance.py", "tests/kit/objects/test_encryption.py")
        assert passed(*files, "-k", "s3 or key", **given) > 80


def test_nginx_passes_what_this_machines_nginx_passes() -> None:
    assert passed("tests/database/test_behind_nginx.py", FLEETLOOP_TEST_NGINX_IMAGE="fleetloop/nginx") == 5


def test_nginx_runs_by_its_own_configuration(tmp_path: Path) -> None:
    authority = load_authority(tmp_path / "ca.pem", "fleetloop", clock.now())
    key, chain = authority.issue_server(["localhost", docker.LOOPBACK], clock.now())
    folder = tmp_path / "certificates"
    folder.mkdir()
    for name, data in (("server.key", key), ("server.crt", chain), ("device-ca.crt", authority.pem.encode())):
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o644)  # another user reads them in there; the folder above is ours alone
    volumes = [(str(folder), "/etc/fleetloop", "ro")]
    with docker.running("fleetloop/nginx", 8443, volumes=volumes) as port:
        answer = httpx.get(f"https://{docker.LOOPBACK}:{port}/device/v1/time", verify=False, trust_env=False)  # noqa: S501
    assert answer.status_code == 502, "no process for devices stands behind it"


@pytest.fixture
def worker(network: Any, postgres_17: str, password: str) -> Iterator[None]:
    """Run the server image's worker beside PostgreSQL."""
    url = f"postgresql://postgres:{password}@postgres/postgres"
    upgrade(with_database(postgres_17, "postgres"))
    command = ["python3", "-m", "control_plane.worker", "--metrics-port", "9101", "--metrics-host", "0.0.0.0"]  # noqa: S104
    home = {"/tmp": "", "/var/lib/fleetloop": "uid=10001,gid=10001,mode=0700"}  # noqa: S108 - in there
    values = {"env": {"FLEETLOOP_DATABASE_URL": url}, "command": command, "tmpfs": home}
    with docker.running("fleetloop/server", 9101, network=network, alias="worker", **values):
        yield


def test_prometheus_scrapes_a_worker_and_knows_every_alert(worker: None, network: Any, tmp_path: Path) -> None:
    given = yaml.safe_load((ROOT / "infra/observability/prometheus.yaml").read_text())
    given["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    given["scrape_configs"][0] = {"job_name": "fleetloop", "static_configs": [{"targets": ["worker:9101"]}]}
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(given))
    (tmp_path / "trial.yaml").chmod(0o644)
    values = {
        "volumes": [(str(tmp_path / "trial.yaml"), "/etc/fleetloop/trial.yaml", "ro")],
        "command": ["--config.file=/etc/fleetloop/trial.yaml"],
    }
    with (
        docker.running("fleetloop/prometheus", 9090, network=network, alias="prometheus", **values) as port,
        httpx.Client(base_url=f"http://{docker.LOOPBACK}:{port}/api/v1", trust_env=False) as http,
    ):
        rules = http.get("/rules").json()["data"]["groups"]
        alerts = yaml.safe_load((ROOT / "infra/observability/alerts.yaml").read_text())["groups"]
        assert [rule["name"] for group in rules for rule in group["rules"]] == [
            rule["alert"] for group in alerts for rule in group["rules"]
        ]
        assert asked(http, 'up{job="fleetloop"}') == 1
        assert asked(http, 'count({__name__=~"fleetloop_.+"})') > 20


def asked(http: httpx.Client, query: str) -> float:
    """Return a query's value once there is one above zero."""
    for _ in range(200):
        found = http.get("/query", params={"query": query}).json()["data"]["result"]
        if found and float(found[0]["value"][1]) > 0:
            return float(found[0]["value"][1])
        time.sleep(0.1)
    pytest.fail(f"Prometheus has nothing for {query}")
