"""Kubernetes: an order is a Job, spoken of to the API server over HTTP, so that runners need no client library.

- A Job's name follows from its order's; the API server refuses a second one of it, which makes submission idempotent.
- Kubernetes never runs a Job again by itself (`backoffLimit: 0`): the ledger counts attempts, each is an order.
- Orders are looked for together, by label: one list of Jobs and one of pods for each hundred.
- The token of the service account is read for every call: Kubernetes changes it while we run.

What this may do: infra/kubernetes/runner-rbac.yaml.
"""

import os
import ssl
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from flows.runners.back_ends.http import Answer, Caller
from flows.runners.back_ends.interface import BackEndError, Order
from flows.runners.back_ends.kubernetes_job import LABEL, ORDER, JobSettings, job_of, legal_name, seen_of
from flows.runners.back_ends.launch import Launch
from flows.steps.orders import Seen

AT_ONCE = 100
PAGE = 500
MAX_PAGES = 40
LOG_LINES = 2000
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, GONE = 400, 403, 404, 409, 410
RIGHTS = "give the runner's service account the Role of infra/kubernetes/runner-rbac.yaml in this namespace"
ADVICE = {
    401: "its token is not taken: it may have expired; see auth_token_file",
    403: RIGHTS,
    422: "what this cluster's entry in clusters.yaml asks for is not legal there",
    429: "the API server has too much to do, it is asked again",
}


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """How the API server is reached; what is None is as a pod finds it in its service account's folder."""

    address: str | None = None
    namespace: str | None = None
    auth_token_file: Path | None = None
    ca_file: Path | None = None


class KubernetesBackEnd:
    runs_images = True

    def __init__(self, launch: Launch, settings: JobSettings, api: ApiSettings) -> None:
        self._launch, self._settings = launch, settings
        inside = api.address is None
        self._token_file = api.auth_token_file or (ACCOUNT / "token" if inside else None)
        namespace = api.namespace or _read(ACCOUNT / "namespace")
        self._jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        ca = api.ca_file or (ACCOUNT / "ca.crt" if inside else None)
        self._api = Caller("Kubernetes", api.address or _address_inside(), self._token, _trust(ca))

    def submit(self, order: Order) -> None:
        body = job_of(order, self._launch, self._settings)
        answer = self._api.ask("POST", self._jobs, params={"fieldValidation": "Strict"}, json=body)
        if answer.status == CONFLICT:
            self._is_the_same(order.name)
        elif not answer.ok:
            raise _refused(f"the Job of {order.name}", answer)

    def _is_the_same(self, name: str) -> None:
        answer = self._api.ask("GET", f"{self._jobs}/{legal_name(name)}")
        if answer.status == NOT_FOUND:
            return  # it was there, and is forgotten by now
        found = _told(f"the Job of {name}", answer)["metadata"].get("annotations", {}).get(ORDER)
        if found != name:
            raise BackEndError(f"a Job of the name {legal_name(name)} is there, and it is not of {name} but of {found}")

    def see(self, names: Collection[str]) -> Mapping[str, Seen]:
        wanted = {legal_name(name): name for name in names}
        legal = list(wanted)
        found: dict[str, Seen] = {}
        for first in range(0, len(legal), AT_ONCE):
            found |= self._see(legal[first : first + AT_ONCE])
        return {wanted[name]: seen for name, seen in found.items() if name in wanted}

    def _see(self, legal: list[str]) -> dict[str, Seen]:
        """Look at Jobs first and at pods after them: a pod that is missing then had ended, or was not there yet."""
        selector = f"{LABEL} in ({','.join(legal)})"
        jobs, now = self._list(self._jobs, selector)
        pods: dict[str, list[Any]] = {}
        for pod in self._list(self._pods, selector)[0]:
            pods.setdefault(pod["metadata"]["labels"][LABEL], []).append(pod)
        return {job["metadata"]["name"]: seen_of(job, pods.get(job["metadata"]["name"], []), now) for job in jobs}

    def _list(self, path: str, selector: str) -> tuple[list[Any], datetime]:
        """Return all items of a label, and the cluster's clock; a list that grew too old between pages begins anew."""
        for _ in range(3):
            items: list[Any] = []
            for answer in self._pages(path, {"labelSelector": selector, "limit": str(PAGE)}):
                if answer.status == GONE:
                    break
                items += _told(path, answer).get("items") or []
            else:
                return items, _clock(answer)
        raise BackEndError(f"Kubernetes forgets lists of {path} faster than they are read")

    def _pages(self, path: str, asked: dict[str, str]) -> Iterator[Answer]:
        for _ in range(MAX_PAGES):
            answer = self._api.ask("GET", path, params=asked)
            yield answer
            token = answer.read().get("metadata", {}).get("continue")
            if not token:
                return
            asked = asked | {"continue": token}
        raise BackEndError(f"Kubernetes lists {path} without end")

    def cancel(self, name: str) -> None:
        # Foreground: the Job is seen until its pod has ended, so that nobody takes it for gone before.
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        answer = self._api.ask("DELETE", f"{self._jobs}/{legal_name(name)}", json=body)
        if not answer.ok and answer.status != NOT_FOUND:
            raise _refused(f"the end of {name}", answer)

    def logs(self, name: str) -> str:
        pods, _ = self._list(self._pods, f"{LABEL}={legal_name(name)}")
        if not pods:
            return ""
        pod = max(pods, key=lambda each: str(each["metadata"].get("creationTimestamp")))["metadata"]["name"]
        answer = self._api.tail(f"{self._pods}/{pod}/log", params={"tailLines": str(LOG_LINES)})
        if answer.status in (NOT_FOUND, BAD_REQUEST):  # gone meanwhile, or its container has not begun
            return ""
        if not answer.ok:
            raise _refused(f"the log of {name}", answer)
        return answer.body.decode(errors="replace")

    def close(self) -> None:
        self._api.close()

    def _token(self) -> str | None:
        return self._token_file.read_text().strip() if self._token_file else None


def _told(what: str, answer: Answer) -> dict[str, Any]:
    if not answer.ok:
        raise _refused(what, answer)
    return answer.read()


def _refused(what: str, answer: Answer) -> BackEndError:
    """Say what Kubernetes does not do, in its own words, and what to do about it."""
    try:
        said = str(answer.read().get("message") or "")[:500]
    except BackEndError:
        said = answer.last_line
    ours = answer.status in ADVICE and (answer.status != FORBIDDEN or " cannot " in said)  # it may also be a quota
    advice = f" ({ADVICE[answer.status]})" if ours else ""
    return BackEndError(f"Kubernetes refuses {what}: {answer.status} {said}{advice}")


def _clock(answer: Answer) -> datetime:
    """Return the API server's time, for its deletion times are by its clock."""
    try:
        return parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return datetime.now(UTC)


def _address_inside() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise BackEndError("this is no pod of Kubernetes; say where its API server is: `address` in clusters.yaml")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise BackEndError(f"say which `namespace` in clusters.yaml: {error}") from error


def _trust(ca_file: Path | None) -> Any:
    try:
        return ssl.create_default_context(cafile=ca_file) if ca_file else True
    except (OSError, ssl.SSLError) as error:
        raise BackEndError(f"no certificate authority in {ca_file}: {error}") from error
