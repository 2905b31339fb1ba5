"""The chart refuses values that cannot be meant, and takes keys into a pod as the server wants them."""

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from control_plane.kit.certificates import load_authority
from control_plane.kit.clock import now
from control_plane.kit.errors import Refused
from control_plane.kit.signing import Keyring, load_signer
from control_plane.kit.signing.files import check_private
from tests.support.chart_settings import SCHEMA, plain_settings
from tests.support.charts import LIBRARY, Document, of_kind, render, rendered

NEEDED = {"object_store": "s3://fleetloop", "public_url": "https://fleetloop.example.com"}
WRONG: dict[str, tuple[str, Document]] = {
    "a misspelt value": ("'': additional properties 'poeple'", {"poeple": {"replicas": 2}}),
    "a misspelt value further down": ("'/people': additional properties 'replica'", {"people": {"replica": 2}}),
    "no replicas": ("'/worker/replicas'", {"worker": {"replicas": 0}}),
    "replicas in words": ("'/worker/replicas'", {"worker": {"replicas": "two"}}),
    "a setting that there is not": ("'/settings': additional properties 'check_in'", {"settings": {"check_in": 3}}),
    "a setting out of its range": ("'/settings/approvals_needed'", {"settings": {"approvals_needed": 11}}),
    "a setting of another type": ("'/settings/require_signed'", {"settings": {"require_signed": "yes"}}),
    "a secret among the settings": (
        "'/settings': additional properties 'oidc_client_secret'",
        {"settings": {"oidc_client_secret": "hush"}},
    ),
    "a database among the settings": (
        "'/settings': additional properties 'database_url'",
        {"settings": {"database_url": "postgresql://u:p@h/d"}},
    ),
    "objects in a pod's folder": ("'/settings/object_store'", {"settings": {"object_store": "/var/lib/objects"}}),
    "an authority that is not named": ("'/database/authorities'", {"database": {"sslMode": "verify-full"}}),
    "no keys": ("'/keys/secret'", {"keys": {"secret": "", "claim": ""}}),
    "a name that is no name": ("'/devices/tlsSecret'", {"devices": {"tlsSecret": "Devices TLS"}}),
    "a digest that is none": ("'/image/digest'", {"image": {"digest": "sha256:12"}}),
    "an ingress of no host": ("'/people/ingress/host'", {"people": {"ingress": {"enabled": True, "tlsSecret": "tls"}}}),
    "an ingress without TLS": (
        "'/people/ingress/tlsSecret'",
        {"people": {"ingress": {"enabled": True, "host": "fleet.example.com"}}},
    ),
    "flows without Prefect": ("'/flows/prefectApiUrl'", {"flows": {"enabled": True}}),
    "a port that is none": ("'/devices/service/port'", {"devices": {"service": {"port": 70000}}}),
    "a network that is none": (
        "'/devices/service/sourceRanges/0'",
        {"devices": {"service": {"sourceRanges": ["everywhere"]}}},
    ),
    "an amount that is none": (
        "'/worker/resources/limits/memory'",
        {"worker": {"resources": {"limits": {"memory": "1 GB"}}}},
    ),
    "metrics for everybody": ("'/networkPolicy/metrics'", {"networkPolicy": {"metrics": []}}),
}
"""What is wrong, where Helm finds it, and the values."""


@pytest.mark.parametrize("what", WRONG)
def test_wrong_values_are_refused(what: str) -> None:
    helm = pytest.importorskip("helm_python", reason=LIBRARY)
    place, values = WRONG[what]
    with pytest.raises(helm.HelmError, match=re.escape(f"at {place}")):
        render(values)


def test_more_at_least_than_at_most_is_refused_by_name() -> None:
    helm = pytest.importorskip("helm_python", reason=LIBRARY)
    with pytest.raises(helm.HelmError, match=r"people.autoscaling: max \(3\) is below min \(4\)"):
        render({"people": {"autoscaling": {"enabled": True, "min": 4, "max": 3}}})


def test_the_schema_knows_the_settings_of_today() -> None:
    held = json.loads(SCHEMA.read_text())["properties"]["settings"]["properties"]
    assert held == plain_settings(), "run: python -m tests.support.chart_settings"


@pytest.mark.parametrize(
    ("value", "text"), [(1000000, "1000000"), (12.5, "12.5"), (20000000, "20000000"), (0.001, "0.001")]
)
def test_numbers_reach_the_process_as_they_were_written(value: float, text: str) -> None:
    (settings,) = [
        each
        for each in of_kind(render({"settings": NEEDED | {"tick_s": value}}), "ConfigMap")
        if "settings" in each["metadata"]["name"]
    ]
    assert settings["data"]["FLEETLOOP_TICK_S"] == text


def _unpack(home: Path, mounted: Path) -> subprocess.CompletedProcess[str]:
    """Run the words of the container that lays out the keys, with this machine's folders for the container's."""
    (worker,) = [each for each in of_kind(rendered("default"), "Deployment") if "worker" in each["metadata"]["name"]]
    shell, flags, script = worker["spec"]["template"]["spec"]["initContainers"][0]["command"]
    script = script.replace("/var/lib/fleetloop", str(home)).replace("/run/fleetloop-keys", str(mounted))
    return subprocess.run([shell, flags, script], capture_output=True, text=True, timeout=60, check=False)


def _pack(folder: Path, to: Path) -> None:
    """Pack as docs/how-to/kubernetes.md says, and as a careless hand would: readable by everybody."""

    def careless(item: tarfile.TarInfo) -> tarfile.TarInfo:
        item.mode, item.uid = 0o644 if item.isfile() else 0o755, 12345
        return item

    with tarfile.open(to / "keys.tar", "w") as archive:
        archive.add(folder, ".", filter=careless)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    (folder / "online").mkdir(parents=True)
    load_signer(folder / "online", "director")
    load_authority(folder / "device-ca.pem", "fleetloop", now())
    (folder / "keys.json").write_text('{"schema": "fleetloop.keys/v1", "roles": {}}')
    return folder


def test_keys_of_a_secret_are_the_process_own_and_nobody_elses(keys: Path, tmp_path: Path) -> None:
    _pack(keys, tmp_path)
    done = _unpack(tmp_path / "home", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    laid = tmp_path / "home" / "keys"
    check_private(laid / "online" / "director.pem")
    assert load_signer(laid / "online", "director").public_hex == load_signer(keys / "online", "director").public_hex
    load_authority(laid / "device-ca.pem", "fleetloop", now())
    assert Keyring.open(laid).ready
    (laid / "online" / "director.pem").chmod(0o640)
    with pytest.raises(Refused):
        check_private(laid / "online" / "director.pem")


@pytest.mark.parametrize("missing", ["keys.json", "device-ca.pem"])
def test_a_pod_does_not_make_up_keys_that_are_missing(keys: Path, tmp_path: Path, missing: str) -> None:
    (keys / missing).unlink()
    _pack(keys, tmp_path)
    done = _unpack(tmp_path / "home", tmp_path)
    assert done.returncode == 1
    assert f"keys.tar has no {missing}" in done.stderr


def test_offline_keys_do_not_come_into_a_pod(keys: Path, tmp_path: Path) -> None:
    (keys / "offline").mkdir()
    _pack(keys, tmp_path)
    done = _unpack(tmp_path / "home", tmp_path)
    assert done.returncode == 1
    assert "offline keys" in done.stderr


def test_a_package_of_the_chart_holds_the_files_that_it_links_to(tmp_path: Path) -> None:
    helm = pytest.importorskip("helm_python", reason=LIBRARY)
    packed = Path(helm.package(SCHEMA.parent, destination=tmp_path))
    with tarfile.open(fileobj=io.BytesIO(packed.read_bytes())) as archive:
        found: dict[str, Any] = {item.name: item for item in archive.getmembers()}
    for name in ("devices.conf", "alerts.yaml"):
        assert found[f"fleetloop/files/{name}"].isreg()
    assert "fleetloop/ci/minimal.yaml" not in found
