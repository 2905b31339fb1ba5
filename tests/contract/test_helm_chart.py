"""The chart, rendered by Helm, gives objects that Kubernetes takes and that keep what the systemd units promise."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane.kit.settings import Settings
from tests.support.chart_settings import CHART, is_secret
from tests.support.charts import (
    LIBRARY,
    VALUES,
    Document,
    containers,
    of_kind,
    pods,
    render,
    rendered,
    values_of,
)

ROOT = Path(__file__).parents[2]
FOREIGN = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator, of which kubernetes-validate has no schemas."""
VERSIONS = ("1.30", "1.37")
everywhere = pytest.mark.parametrize("name", VALUES)


def labels_match(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@everywhere
def test_helm_finds_nothing_to_complain_about(name: str) -> None:
    helm = pytest.importorskip("helm_python", reason=LIBRARY)
    report = helm.lint(CHART, values_of(name), strict=True, kube_version="v1.30.0")
    assert [each for each in report["messages"] if each["severity"] > 1] == []
    assert report["errors"] == []


@everywhere
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object(name: str, version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed").validate
    known = [each for each in rendered(name) if each["kind"] not in FOREIGN]
    assert len(known) > 9
    for each in known:
        validate(each, version, strict=True)


@everywhere
def test_no_pod_may_do_more_than_it_must(name: str) -> None:
    """What Kubernetes calls the restricted profile, and a read-only root besides."""
    for pod in pods(rendered(name)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
        assert all("hostPath" not in volume for volume in spec["volumes"])


@everywhere
def test_what_is_mounted_is_there_and_everything_that_is_there_is_mounted(name: str) -> None:
    for pod in pods(rendered(name)):
        mounted = {mount["name"] for container in containers(pod) for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


@everywhere
def test_deployments_of_two_survive_a_node_and_a_roll_out(name: str) -> None:
    documents = rendered(name)
    budgets = of_kind(documents, "PodDisruptionBudget")
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(documents, "HorizontalPodAutoscaler")}
    for each in of_kind(documents, "Deployment"):
        spec, labels = each["spec"], each["spec"]["template"]["metadata"]["labels"]
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert labels_match(spec["selector"]["matchLabels"], labels)
        assert ("replicas" not in spec) == (each["metadata"]["name"] in scaled)
        held = [one for one in budgets if labels_match(one["spec"]["selector"]["matchLabels"], labels)]
        assert len(held) == (1 if spec.get("replicas", 2) >= 2 else 0), each["metadata"]["name"]
        for spread in spec["template"]["spec"]["topologySpreadConstraints"]:
            assert labels_match(spread["labelSelector"]["matchLabels"], labels)


@everywhere
def test_services_and_probes_lead_to_ports_that_are_there(name: str) -> None:
    documents = rendered(name)
    deployments = [each["spec"]["template"] for each in of_kind(documents, "Deployment")]
    for pod in deployments:
        for container in pod["spec"]["containers"]:
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container[kind].get("httpGet") or container[kind]["tcpSocket"]
                assert probe["port"] in ports
            listening = re.findall(r"--(?:metrics-)?port (\d+)", " ".join(container.get("command", ())))
            assert {int(port) for port in listening} <= set(ports.values())
    for service in of_kind(documents, "Service"):
        chosen = [pod for pod in deployments if labels_match(service["spec"]["selector"], pod["metadata"]["labels"])]
        assert chosen, service["metadata"]["name"]
        for pod in chosen:
            names = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


@everywhere
def test_servers_have_the_time_their_units_give_them(name: str) -> None:
    for component in ("people", "devices", "worker"):
        unit = (ROOT / "infra" / "systemd" / f"fleetloop-{component}.service").read_text()
        (most_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
        (each,) = [one for one in of_kind(rendered(name), "Deployment") if one["metadata"]["name"].endswith(component)]
        spec = each["spec"]["template"]["spec"]
        (server,) = [one for one in spec["containers"] if one["name"] == component]
        before_s = server.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert spec["terminationGracePeriodSeconds"] - before_s == int(most_s)


def test_what_containers_start_is_there() -> None:
    commands = {
        " ".join(c["command"]) for pod in pods(rendered("everything")) for c in containers(pod) if "command" in c
    }
    modules = {tuple(command.split()[1:]) for command in commands if command.startswith("python3 -m ")}
    assert {module for _, module, *_ in modules} == {
        "control_plane.main",
        "control_plane.worker",
        "control_plane.migrations",
        "flows.deployments",
    }
    for _, module, *arguments in modules:
        if not arguments:
            continue
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert all(flag in done.stdout for flag in arguments if flag.startswith("--")), module


@everywhere
def test_settings_are_ones_that_the_control_plane_knows(name: str) -> None:
    (settings,) = [each for each in of_kind(rendered(name), "ConfigMap") if "settings" in each["metadata"]["name"]]
    ours = {key.removeprefix("FLEETLOOP_").lower() for key in settings["data"] if key.startswith("FLEETLOOP_")}
    assert ours - {"secrets_dir"} <= set(Settings.model_fields)
    assert not any(is_secret(key) for key in ours - {"secrets_dir"})
    assert all(isinstance(value, str) and value for value in settings["data"].values())
    read = Settings(**{key: settings["data"][f"FLEETLOOP_{key.upper()}"] for key in ours - {"secrets_dir"}})
    for key, value in values_of(name).get("settings", {}).items():
        assert getattr(read, key) == value, key


@everywhere
def test_files_of_secrets_are_settings_too(name: str) -> None:
    known = {f"fleetloop_{field}" for field in [*Settings.model_fields, "database_direct_url"]}
    for pod in pods(rendered(name)):
        for volume in pod["spec"]["volumes"]:
            for source in volume.get("projected", {}).get("sources", ()):
                assert {item["path"] for item in source.get("secret", {}).get("items", ())} <= known


@everywhere
def test_whoever_speaks_to_the_database_is_told_how_to_trust_it(name: str) -> None:
    """Whatever the URL in the secret says or leaves out: by PostgreSQL's own variables, which a URL overrides."""
    wanted = values_of(name).get("database", {}).get("sslMode", "require")
    told = 0
    for pod in pods(rendered(name)):
        for container in pod["spec"]["containers"]:
            if any(mount["name"] == "secrets" for mount in container["volumeMounts"]):
                variables = {each["name"]: each.get("value") for each in container["env"]}
                assert variables["PGSSLMODE"] == wanted
                assert ("PGSSLROOTCERT" in variables) == wanted.startswith("verify")
                told += 1
    assert told == 3 + ("Job" in {each["kind"] for each in rendered(name)})


@everywhere
def test_secrets_are_named_and_never_written(name: str) -> None:
    documents = rendered(name)
    assert of_kind(documents, "Secret") == []
    for pod in pods(documents):
        for container in containers(pod):
            for variable in container.get("env", ()):
                secret = re.search("TOKEN|PASSWORD|SECRET$|DATABASE", variable["name"])
                assert not secret or "secretKeyRef" in variable["valueFrom"], variable
    assert not re.search(r"postgres(ql)?://|BEGIN [A-Z ]*PRIVATE KEY", yaml.safe_dump_all(documents))


def _reaches(policy: Document, labels: dict[str, str]) -> bool:
    selector = policy["spec"]["podSelector"]
    return labels_match(selector.get("matchLabels", {}), labels) and all(
        labels[each["key"]] in each["values"] for each in selector.get("matchExpressions", ())
    )


def _ports(policies: list[Document], way: str) -> set[Any]:
    rules = [rule for each in policies for rule in each["spec"].get(way, ())]
    assert all(rule.get("ports") for rule in rules), "a rule without ports allows every port"
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_every_pod_is_closed_but_for_what_it_needs() -> None:
    documents = rendered("everything")
    policies = of_kind(documents, "NetworkPolicy")
    wanted = {
        "people": ({"http", "metrics"}, {53, 443, 5432}),
        "devices": ({"tls", "metrics"}, {53, 443, 5432}),
        "worker": ({"metrics"}, {53, 443, 5432, 4200}),
        "flows": (set[Any](), {53, "http", 4200, 443}),
        "migrate": (set[Any](), {53, 5432}),
    }
    for pod in pods(documents):
        labels = pod["metadata"]["labels"]
        held = [each for each in policies if _reaches(each, labels)]
        assert {kind for each in held for kind in each["spec"]["policyTypes"]} == {"Ingress", "Egress"}
        component = labels["app.kubernetes.io/component"]
        assert (_ports(held, "ingress"), _ports(held, "egress")) == wanted.pop(component)
    assert wanted == {}


def test_rules_and_the_proxy_are_those_of_infra() -> None:
    documents = rendered("everything")
    (rules,) = of_kind(documents, "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((ROOT / "infra/observability/alerts.yaml").read_text())
    (proxy,) = [each for each in of_kind(documents, "ConfigMap") if "devices.conf" in each["data"]]
    assert proxy["data"]["devices.conf"].strip() == (ROOT / "infra/nginx/devices.conf").read_text().strip()
    (devices,) = [each for each in of_kind(documents, "Deployment") if each["metadata"]["name"].endswith("devices")]
    server, _ = devices["spec"]["template"]["spec"]["containers"]
    socket = server["command"][server["command"].index("--proxied-socket") + 1]
    assert f"server unix:{socket};" in proxy["data"]["devices.conf"]
    mounts = {item["path"] for item in _secret_items(devices, "tls")}
    named = re.findall(r"^\s+ssl_(?:client_)?certificate(?:_key)? (\S+);", proxy["data"]["devices.conf"], re.MULTILINE)
    assert {f"/etc/fleetloop/{path}" for path in mounts} == set(named)


def _secret_items(deployment: Document, volume: str) -> list[dict[str, str]]:
    (found,) = [each for each in deployment["spec"]["template"]["spec"]["volumes"] if each["name"] == volume]
    items: list[dict[str, str]] = found["secret"]["items"]
    return items


def test_the_database_is_migrated_before_anything_new_starts() -> None:
    (job,) = of_kind(rendered("default"), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    needed = {
        each["metadata"]["name"]
        for each in of_kind(rendered("default"), "ServiceAccount")
        if "annotations" in each["metadata"]
    }
    spec = job["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] in needed, "before an installation only hooks are there"
    assert all("configMap" not in volume for volume in spec["volumes"])
    assert all("envFrom" not in container for container in spec["containers"])


def test_two_releases_in_one_namespace_share_nothing() -> None:
    first, second = (render({}, name=name) for name in ("one", "two"))
    names = [{(each["kind"], each["metadata"]["name"]) for each in found} for found in (first, second)]
    assert names[0] & names[1] == set()
    for service in of_kind(first, "Service"):
        assert not any(labels_match(service["spec"]["selector"], pod["metadata"]["labels"]) for pod in pods(second))
