"""Kubernetes' back end against the stand-in: what the conformance suite does not come to, most of it going wrong."""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flows.runners import cluster as clusters
from flows.runners.back_ends import http
from flows.runners.back_ends import kubernetes as back_ends
from flows.runners.back_ends.interface import LOG_BYTES, BackEndError
from flows.runners.back_ends.kubernetes import ApiSettings, KubernetesBackEnd
from flows.runners.back_ends.kubernetes_job import ORDER, JobSettings, legal_name
from flows.runners.cluster import Cluster
from flows.steps.orders import Phase
from tests.clusters.back_end import TOKEN, launch_of, order_of, phase_of, reaches
from tests.clusters.conftest import Bench, running
from tests.clusters.kubernetes_stand_in import NAMESPACE, Kubernetes, allowed, kubernetes_stand_in, status
from tests.clusters.processes import until
from tests.clusters.stand_in_http import Reply
from tests.clusters.test_conformance import once
from tests.unit.flows.test_cluster import Ledger, job_of

Make = Callable[..., KubernetesBackEnd]
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


@pytest.fixture
def make(kubernetes: Kubernetes, tmp_path: Path) -> Iterator[Make]:
    """Make back ends whose orders run a script."""
    kubernetes.controllers.secrets["fleetloop-token"] = {"token": TOKEN}
    opened: list[KubernetesBackEnd] = []

    def one(script: str = "exec sleep 60", env: dict[str, str] | None = None, **changes: Any) -> KubernetesBackEnd:
        settings = JobSettings("stand-in:1", "fleetloop-token", **{"grace_s": 2, "node_lost_s": 1} | changes)
        api = ApiSettings(kubernetes.address, NAMESPACE, kubernetes.token_file)
        opened.append(KubernetesBackEnd(launch_of(tmp_path, script, **env or {}), settings, api))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


def pod_of(kubernetes: Kubernetes, name: str) -> Any:
    with kubernetes.controllers.lock:
        [pod] = kubernetes.controllers.pods_of(kubernetes.controllers.jobs[legal_name(name)])
    return pod


def test_the_role_that_we_ship_is_all_that_is_needed_and_no_more(kubernetes: Kubernetes, make: Make) -> None:
    back_end, order = make("echo begun; exec sleep 60"), order_of()
    back_end.submit(order)
    back_end.submit(order)
    reaches(back_end, order, Phase.RUNNING)
    until(lambda: back_end.logs(order.name) == "begun\n", 10, "the log is there")
    back_end.cancel(order.name)
    assert kubernetes.used == allowed()


def test_the_secret_reaches_the_program_by_a_file_only(make: Make) -> None:
    back_end, order = make('cat "$FLEETLOOP_TOKEN_FILE"; env; echo "$@"', {"DOLLARS": "$(HOME) $$x"}), order_of()
    back_end.submit(order)
    reaches(back_end, order, Phase.GONE)
    said = back_end.logs(order.name)
    assert said.startswith(TOKEN)
    assert said.count(TOKEN) == 1
    assert "\nDOLLARS=$(HOME) $$x\n" in said
    assert said.endswith(f"-m flows.runners.wrapper {order.key} {order.name}\n")


def test_a_job_of_the_same_name_is_success_only_if_it_is_the_same(kubernetes: Kubernetes, make: Make) -> None:
    back_end, order = make(), order_of()
    back_end.submit(order)
    back_end.submit(order)
    assert len(kubernetes.controllers.jobs) == 1
    with kubernetes.controllers.lock:
        kubernetes.controllers.jobs[legal_name(order.name)]["metadata"]["annotations"][ORDER] = "other"
    with pytest.raises(BackEndError, match=r"it is not of .* but of other"):
        back_end.submit(order)


def test_many_orders_are_looked_for_together_and_page_by_page(
    kubernetes: Kubernetes, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back_ends, "AT_ONCE", 10)
    back_end, orders = make(), [order_of(f"job-{number}", cpus=9) for number in range(12)]
    kubernetes.page = 4
    for order in orders:
        back_end.submit(order)
    kubernetes.asked.clear()
    seen = back_end.see([*(order.name for order in orders), "nobody.0.1.1"])
    assert len(seen) == 12
    # two selectors (of 10 and of 3 orders): three pages and one of Jobs, as many at most of pods
    assert kubernetes.asked.count(f"GET {JOBS}") == 4
    assert len(kubernetes.asked) <= 8
    assert {each.phase for each in seen.values()} == {Phase.WAITING}


def test_a_list_that_grew_too_old_begins_anew(kubernetes: Kubernetes, make: Make) -> None:
    back_end, orders = make(), [order_of(f"job-{number}") for number in range(5)]
    kubernetes.page = 2
    for order in orders:
        back_end.submit(order)
    expired = status(410, "Expired", "The provided continue parameter is too old")
    kubernetes.refusals.order("GET", "/jobs", expired, having="continue")
    assert len(back_end.see([order.name for order in orders])) == 5
    kubernetes.refusals.order("GET", "/jobs", expired, times=3, having="continue")
    with pytest.raises(BackEndError, match="faster than they are read"):
        back_end.see([order.name for order in orders])


def test_what_is_refused_says_what_to_do(kubernetes: Kubernetes, make: Make) -> None:
    back_end, order = make(), order_of()
    kubernetes.tokens = dict.fromkeys(kubernetes.tokens, "nobody")
    with pytest.raises(BackEndError, match=r"403 jobs is forbidden: .*cannot create.*runner-rbac\.yaml"):
        back_end.submit(order)
    with pytest.raises(BackEndError, match=r"403 .*cannot list"):
        back_end.see([order.name])
    with pytest.raises(BackEndError, match=r"403 .*cannot delete"):
        back_end.cancel(order.name)
    kubernetes.tokens = {}
    with pytest.raises(BackEndError, match=r"401 Unauthorized .*may have expired; see auth_token_file"):
        back_end.see([order.name])


def test_a_quota_is_not_taken_for_a_missing_right(kubernetes: Kubernetes, make: Make) -> None:
    said = 'jobs.batch "fl-x" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1, used: 9, limited: 9'
    kubernetes.refusals.order("POST", "/jobs", status(403, "Forbidden", said))
    with pytest.raises(BackEndError, match=r"403 .*limited: 9$"):
        make().submit(order_of())


@pytest.mark.parametrize(("name", "value", "said"), [
    ("MAX_ANSWER_BYTES", 100, "over 100 bytes"), ("WHOLE_S", -1, "not done answering"),
])  # fmt: skip
def test_an_answer_without_end_is_cut_off(
    kubernetes: Kubernetes, make: Make, monkeypatch: pytest.MonkeyPatch, name: str, value: int, said: str
) -> None:
    monkeypatch.setattr(http, name, value)
    kubernetes.refusals.order("GET", "/jobs", Reply(200, b"x" * 200))
    with pytest.raises(BackEndError, match=said):
        make().see(["a.1.1"])


def test_a_token_that_changed_is_read_anew(kubernetes: Kubernetes, make: Make) -> None:
    back_end, order = make(), order_of()
    back_end.submit(order)
    kubernetes.renew_token()
    assert phase_of(back_end, order) is not Phase.UNKNOWN
    kubernetes.token_file.unlink()
    with pytest.raises(BackEndError, match="FileNotFoundError"):
        back_end.see([order.name])


@pytest.mark.parametrize(("changes", "said"), [
    ({"tolerations": ({"bogus": 1},)}, "400 strict decoding error: unknown field"),
    ({"queue": "not legal!"}, r"422 metadata\.labels.*\(what this cluster's entry"),
    ({"grace_s": "soon"}, r"422 .*terminationGracePeriodSeconds"),
])  # fmt: skip
def test_what_kubernetes_does_not_take_is_told(make: Make, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BackEndError, match=said):
        make(**changes).submit(order_of())


def test_weather_is_borne(kubernetes: Kubernetes, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that has too much to do, is away or is a proxy's page is asked again, and nobody hears of it."""
    monkeypatch.setattr(clusters, "RETRY_S", 0.05)
    monkeypatch.setattr(clusters, "POLL_S", 0.05)
    busy = status(429, "TooManyRequests", "the server has received too many requests", **{"Retry-After": "1"})
    for reply in (busy, status(503, "ServiceUnavailable", "etcd is away"), status(500, "InternalError", "again")):
        kubernetes.refusals.order("GET", "/jobs", reply)
        kubernetes.refusals.order("POST", "/jobs", reply)
    job = job_of("job")
    client: Any = Ledger(job)
    cluster = Cluster(client, "there", make(), 2)
    future = cluster.submit(job)
    until(lambda: len(kubernetes.controllers.jobs) == 1, 20, "the order is placed after all")
    assert not future.done()
    assert not kubernetes.refusals.due
    cluster.close()


def test_cancelling_and_logs_of_what_is_not_there_are_no_complaint(make: Make) -> None:
    back_end = make()
    back_end.cancel("nobody.0.1.1")
    assert back_end.logs("nobody.0.1.1") == ""
    assert back_end.see([]) == {}


def test_a_log_is_given_from_its_end_and_bounded(make: Make) -> None:
    back_end, order = make(f"head -c {2 * LOG_BYTES} /dev/zero | tr '\\0' x; echo; echo the end"), order_of()
    back_end.submit(order)
    reaches(back_end, order, Phase.GONE)
    said = back_end.logs(order.name)
    assert len(said) == LOG_BYTES
    assert said.endswith("x\nthe end\n")


def test_an_order_that_waits_has_no_log(make: Make) -> None:
    back_end, order = make(), order_of(cpus=9)
    back_end.submit(order)
    assert "Unschedulable: 0/2 nodes are available" in reaches_with_pod(back_end, order)
    assert back_end.logs(order.name) == ""


def reaches_with_pod(back_end: KubernetesBackEnd, order: Any) -> str:
    until(lambda: "pod Pending" in back_end.see([order.name])[order.name].because, 10, "it has a pod")
    return reaches(back_end, order, Phase.WAITING)


def test_a_secret_that_is_missing_leaves_it_waiting(kubernetes: Kubernetes, make: Make) -> None:
    kubernetes.controllers.secrets.clear()
    back_end, order = make(), order_of()
    back_end.submit(order)
    until(lambda: "ContainerCreating" in back_end.see([order.name])[order.name].because, 10, "it is said why")
    kubernetes.controllers.secrets["fleetloop-token"] = {"token": TOKEN}
    reaches(back_end, order, Phase.RUNNING)


def test_over_its_time_is_a_bound_of_the_clusters(make: Make) -> None:
    back_end, order = make(), order_of(limit_s=1)
    back_end.submit(order)
    assert "DeadlineExceeded" in reaches(back_end, order, Phase.STOPPED)


def test_an_evicted_order_is_gone_once_its_grace_is_over(kubernetes: Kubernetes, make: Make) -> None:
    back_end, order = make("trap '' TERM; echo deaf; while :; do sleep 0.1; done"), order_of()
    back_end.submit(order)
    until(lambda: back_end.logs(order.name) == "deaf\n", 20, "it runs")
    with kubernetes.controllers.lock:
        kubernetes.controllers.disrupt(pod_of(kubernetes, order.name), "EvictionByEvictionAPI", "the node is drained")
    assert "being disrupted (EvictionByEvictionAPI: the node is drained)" in reaches(back_end, order, Phase.RUNNING)
    reaches(back_end, order, Phase.GONE)


def test_what_somebody_deletes_is_seen_until_it_has_ended(kubernetes: Kubernetes, make: Make) -> None:
    back_end, order = make("trap '' TERM; echo deaf; while :; do sleep 0.1; done"), order_of()
    back_end.submit(order)
    until(lambda: back_end.logs(order.name) == "deaf\n", 20, "it runs")
    back_end.cancel(order.name)
    assert phase_of(back_end, order) is Phase.RUNNING
    reaches(back_end, order, Phase.UNKNOWN)
    assert not kubernetes.controllers.pods


def test_kueue_admits_by_its_quota_and_takes_back(kubernetes: Kubernetes, make: Make) -> None:
    kubernetes.controllers.quota_cpus = 1
    back_end, first, second = make(queue="robots"), order_of("first"), order_of("second")
    back_end.submit(first)
    reaches(back_end, first, Phase.RUNNING)
    back_end.submit(second)
    assert "waits to be admitted from queue robots" in reaches(back_end, second, Phase.WAITING)
    with kubernetes.controllers.lock:
        kubernetes.controllers.suspend(kubernetes.controllers.jobs[legal_name(first.name)])
    reaches(back_end, second, Phase.RUNNING)
    back_end.cancel(second.name)
    reaches(back_end, first, Phase.RUNNING)  # a new pod of the same order: its wrapper's turn is over by then


@pytest.mark.parametrize("bench", ["kubernetes"], indirect=True)
async def test_a_job_that_kueue_takes_back_runs_again(bench: Bench, kubernetes: Kubernetes, tmp_path: Path) -> None:
    """The first pod's wrapper says that it was told to leave; when Kueue admits the old Job again, it does nothing."""
    bench.config["queue"] = "robots"

    def work() -> None:
        pid = tmp_path / "pid"
        job = bench.ask(once(pid, "time.sleep(600)"))
        future = bench.open().submit(job)
        running(pid)
        with kubernetes.controllers.lock:
            [first] = kubernetes.controllers.jobs.values()
            kubernetes.controllers.suspend(first)
        done = future.result(60)
        assert (done.state, done.attempt) == ("done", 2)
        until(lambda: any(each["type"] == "Failed" for each in first["status"]["conditions"]), 30, "the old one ends")
        assert bench.client.get_job(job.key).attempt == 2

    await asyncio.to_thread(work)


@pytest.mark.parametrize("bench", ["kubernetes", "osmo"], indirect=True)
async def test_a_job_that_states_an_image_gets_it(bench: Bench, request: pytest.FixtureRequest) -> None:
    def work() -> None:
        job = bench.ask("import pathlib; pathlib.Path('outputs/a').write_text('made')", image="mine@sha256:0")
        assert bench.open().submit(job).result(60).state == "done"

    await asyncio.to_thread(work)
    there = request.getfixturevalue(bench.name)
    [asked] = there.controllers.pods.values() if bench.name == "kubernetes" else there.workflows.values()
    [container] = asked["spec"]["containers"] if bench.name == "kubernetes" else [asked.task]
    assert container["image"] == "mine@sha256:0"


def test_ended_jobs_are_kept_for_a_while(make: Make) -> None:
    back_end, order = make("exit 3", keep_s=2), order_of()
    back_end.submit(order)
    assert "Error (exit 3)" in reaches(back_end, order, Phase.GONE)
    reaches(back_end, order, Phase.UNKNOWN)


@pytest.mark.parametrize("body", [b"<html>a proxy's page</html>", b"[1]", b"null"])
def test_what_is_no_answer_of_kubernetes_is_the_back_ends_failure(
    kubernetes: Kubernetes, make: Make, body: bytes
) -> None:
    kubernetes.refusals.order("GET", "/jobs", Reply(200, body))
    with pytest.raises(BackEndError, match="not an answer of the cluster"):
        make().see(["a.1.1"])


def test_a_server_that_is_not_there_is_the_back_ends_failure(tmp_path: Path) -> None:
    api = ApiSettings("http://127.0.0.1:9", NAMESPACE)
    back_end = KubernetesBackEnd(launch_of(tmp_path, "true"), JobSettings("i", "t"), api)
    with pytest.raises(BackEndError, match=r"Kubernetes at http://127\.0\.0\.1:9: ConnectError"):
        back_end.see(["a.1.1"])
    back_end.close()


def test_a_runner_inside_finds_its_api_server_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = tmp_path / "account"
    account.mkdir()
    with kubernetes_stand_in(tmp_path, _tls(account)) as kubernetes:
        (account / "namespace").write_text(NAMESPACE)
        (account / "token").write_text(kubernetes.token_file.read_text())
        host, port = kubernetes.address.removeprefix("https://").split(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        monkeypatch.setattr(back_ends, "ACCOUNT", account)
        launch, settings = launch_of(tmp_path, "true"), JobSettings("stand-in:1", "fleetloop-token")
        inside = KubernetesBackEnd(launch, settings, ApiSettings())
        assert inside.see(["a.1.1"]) == {}
        inside.close()
        stranger = KubernetesBackEnd(launch, settings, ApiSettings(kubernetes.address, NAMESPACE, account / "token"))
        with pytest.raises(BackEndError, match="certificate verify failed"):  # no ca_file: nobody here knows it
            stranger.see(["a.1.1"])
        stranger.close()


def test_outside_of_a_cluster_it_must_be_said_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    launch, settings = launch_of(tmp_path, "true"), JobSettings("stand-in:1", "fleetloop-token")
    with pytest.raises(BackEndError, match="say which `namespace`"):
        KubernetesBackEnd(launch, settings, ApiSettings("http://127.0.0.1:1"))
    with pytest.raises(BackEndError, match="`address` in clusters"):
        KubernetesBackEnd(launch, settings, ApiSettings(namespace=NAMESPACE, ca_file=_some_ca(tmp_path)))


def _some_ca(folder: Path) -> Path:
    _tls(folder)
    return folder / "ca.crt"


def _tls(folder: Path) -> ssl.SSLContext:
    """Make a certificate for this machine that vouches for itself, as a cluster's own authority would."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stand-in")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "key.pem")
    return context
