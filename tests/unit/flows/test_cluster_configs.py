"""What `clusters.yaml` may say of Kubernetes and OSMO, and that what the guide shows is taken."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from flows.runners.back_ends.configs import KubernetesConfig, OsmoConfig
from flows.runners.back_ends.configured import ClusterConfigError, open_clusters, read_file
from flows.runners.back_ends.kubernetes import KubernetesBackEnd
from flows.runners.back_ends.osmo import OsmoBackEnd

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "clusters.md"
KUBERNETES = {
    "backend": "kubernetes",
    "slots": 2,
    "server": "https://fleetloop",
    "image": "sim:1",
    "token_secret": "fleetloop-token",
}
OSMO = {
    "backend": "osmo",
    "slots": 2,
    "server": "https://fleetloop",
    "image": "sim:1",
    "address": "https://osmo",
    "pool": "robots",
    "credential": "fleetloop",
}


def read(folder: Path, **config: Any) -> Any:
    file = folder / "clusters.yaml"
    file.write_text(yaml.safe_dump({"clusters": {"there": config}}))
    return read_file(file).clusters["there"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def test_little_needs_to_be_said(tmp_path: Path) -> None:
    kubernetes = read(tmp_path, **KUBERNETES)
    assert isinstance(kubernetes, KubernetesConfig)
    assert (str(kubernetes.home), str(kubernetes.token_file)) == ("/fleetloop", "/run/fleetloop/token")
    assert isinstance(read(tmp_path, **OSMO), OsmoConfig)


@pytest.mark.parametrize(("config", "said"), [
    (KUBERNETES | {"token_file": "/fleetloop/token"}, "token_file needs a folder of its own"),
    (KUBERNETES | {"home": "work"}, "absolute paths"),
    (KUBERNETES | {"queue": "Not Legal"}, "queue"),
    (KUBERNETES | {"run_as": 0}, "run_as"),
    (KUBERNETES | {"address": "http://api:6443", "auth_token_file": "/t"}, "in the clear"),
    (KUBERNETES | {"privileged": True}, "privileged"),
    (KUBERNETES | {"image": ""}, "image"),
    (KUBERNETES | {"tolerations": [{"effect": "Never"}]}, "effect"),
    (OSMO | {"address": "http://osmo", "auth_token_file": "/t"}, "in the clear"),
    (OSMO | {"priority": "SOON"}, "priority"),
    (OSMO | {"token_file": "/t"}, "token_file"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path: Path, config: Any, said: str) -> None:
    with pytest.raises(ClusterConfigError, match=said):
        read(tmp_path, **config)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_tunnel_that_ends_here_may_take_a_token(tmp_path: Path, host: str) -> None:
    read(tmp_path, **KUBERNETES | {"address": f"http://{host}:8001", "auth_token_file": "/t"})


def test_a_runner_that_is_no_pod_is_told_what_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    read(tmp_path, **KUBERNETES | {"namespace": "robots"})
    client: Any = None
    with pytest.raises(ClusterConfigError, match=r"cluster there: this is no pod.*`address`"):
        open_clusters(client, tmp_path)


def test_what_the_guide_shows_is_taken(tmp_path: Path) -> None:
    files = [text for text in blocks("yaml") if "clusters:" in text]
    assert len(files) == 3
    backends = {}
    for text in files:
        (tmp_path / "clusters.yaml").write_text(text)
        backends |= {each.backend: each for each in read_file(tmp_path / "clusters.yaml").clusters.values()}
    assert set(backends) == {"local", "slurm", "ray", "kubernetes", "osmo"}
    changes = {"ca_file": None, "address": "http://127.0.0.1:1"}
    assert isinstance(backends["kubernetes"].model_copy(update=changes).open(), KubernetesBackEnd)
    assert isinstance(backends["osmo"].open(), OsmoBackEnd)


def test_manifests_that_the_guide_shows_are_what_kubernetes_takes() -> None:
    shown = [item for text in blocks("yaml") if "apiVersion:" in text for item in yaml.safe_load_all(text)]
    assert {each["kind"] for each in shown} == {"Namespace"}
    for each in shown:
        kubernetes_validate.validate(each, "1.34", strict=True)
