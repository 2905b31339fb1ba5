"""Stand-in for Kubernetes' API server: the calls that the back end makes, as the documentation has them.

What it takes is checked against the schemas of Kubernetes 1.34 (kubernetes-validate), who may do what against the Role
that we ship. See kubernetes_controllers for what it is not.
"""

import base64
import json
import re
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.clusters.kubernetes_controllers import Controllers, Object
from tests.clusters.stand_in_http import Refusals, Reply, Request, served, ticking

NAMESPACE = "robots"
VERSION = "1.34"
ROLE = Path(__file__).parents[2] / "infra" / "kubernetes" / "runner-rbac.yaml"
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[a-z.]+))/v1/namespaces/(?P<namespace>[a-z0-9-]+)/(?P<kind>jobs|pods)"
    r"(?:/(?P<name>[a-z0-9-]+)(?:/(?P<sub>[a-z]+))?)?"
)
VERBS = {"POST": "create", "DELETE": "delete"}
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][A-Za-z0-9_.-]{0,61})?[A-Za-z0-9])?")


def status(code: int, reason: str, message: str, **headers: str) -> Reply:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
    return Reply(code, body, headers)


def allowed(file: Path = ROLE) -> set[tuple[str, str, str]]:
    """Return what a Role allows, as (group, resource, verb)."""
    rules = [rule for item in yaml.safe_load_all(file.read_text()) for rule in item.get("rules", ())]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@dataclass
class Kubernetes:
    """The stand-in as tests know it; tokens say who asks: the runner, or somebody without rights."""

    address: str
    controllers: Controllers
    token_file: Path
    tokens: dict[str, str] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=Refusals)
    used: set[tuple[str, str, str]] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    page: int = 500

    def renew_token(self) -> None:
        """Put a new token into the file, and take the old one no longer."""
        token = secrets.token_hex(16)
        self.token_file.write_text(token)
        self.tokens = {token: "runner"}

    def answer(self, request: Request) -> Reply:
        with self.controllers.lock:
            self.asked.append(f"{request.method} {request.path}")
            return self.refusals.next_for(request) or self._authorised(request)

    def _authorised(self, request: Request) -> Reply:
        found, who = PATH.fullmatch(request.path), self.tokens.get(request.token)
        if who is None:
            return status(401, "Unauthorized", "Unauthorized")
        if found is None:
            return status(404, "NotFound", "the server could not find the requested resource")
        kind, sub, group = found["kind"], found["sub"], found["group"] or ""
        verb = VERBS.get(request.method) or ("get" if found["name"] else "list")
        right = (group, f"{kind}/{sub}" if sub else kind, verb)
        self.used.add(right)
        if who != "runner" or found["namespace"] != NAMESPACE or right not in allowed():
            whom = f'User "system:serviceaccount:{NAMESPACE}:{who}" cannot {verb} resource "{right[1]}"'
            return status(403, "Forbidden", f'{kind} is forbidden: {whom} in the namespace "{found["namespace"]}"')
        return self._do(verb, kind, found["name"], sub, request)

    def _do(self, verb: str, kind: str, name: str | None, sub: str | None, request: Request) -> Reply:
        items = self.controllers.jobs if kind == "jobs" else self.controllers.pods
        if verb == "list":
            return self._list(items, request.query, "JobList" if kind == "jobs" else "PodList")
        if verb == "create":
            return self._create(request)
        item = items.get(name or "")
        if item is None:
            return status(404, "NotFound", f'{kind} "{name}" not found')
        if sub == "log":
            return self._log(item, request.query)
        if verb == "delete":
            return self._delete(item, request)
        return Reply(200, item)

    def _create(self, request: Request) -> Reply:
        job = request.json()
        wrong = self._wrong(job, strict=request.query.get("fieldValidation") == "Strict")
        if wrong:
            return wrong
        if job["metadata"]["name"] in self.controllers.jobs:
            return status(409, "AlreadyExists", f'jobs.batch "{job["metadata"]["name"]}" already exists')
        return Reply(201, self.controllers.create(job))

    def _wrong(self, job: Object, *, strict: bool) -> Reply | None:
        """Say what is wrong with a Job: by the schema, and by the rules that no schema has."""
        try:
            kubernetes_validate.validate(job, VERSION, strict=strict)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(map(str, error.path))
            if error.validator == "additionalProperties":
                return status(400, "BadRequest", f"strict decoding error: unknown field in {where!r}: {error.message}")
            return status(422, "Invalid", f"{where}: {error.message}")
        meta, template = job["metadata"], job["spec"]["template"]
        for labels in (meta.get("labels", {}), template["metadata"].get("labels", {})):
            for value in labels.values():
                if not LABEL_VALUE.fullmatch(value):
                    return status(422, "Invalid", f"metadata.labels: Invalid value: {value!r}")
        if not DNS_LABEL.fullmatch(meta["name"]):
            return status(422, "Invalid", f"metadata.name: Invalid value: {meta['name']!r}")
        if template["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
            return status(422, "Invalid", "spec.template.spec.restartPolicy: Required value")
        return None

    def _list(self, items: dict[str, Object], query: dict[str, str], kind: str) -> Reply:
        chosen = [each for name, each in sorted(items.items()) if _matches(each, query.get("labelSelector", ""))]
        token = json.loads(base64.b64decode(query["continue"])) if "continue" in query else {"start": 0}
        end = token["start"] + min(int(query.get("limit", self.page)), self.page)
        meta = {"resourceVersion": str(self.controllers.version)}
        if end < len(chosen):
            meta["continue"] = base64.b64encode(json.dumps({"start": end}).encode()).decode()
        body = {"kind": kind, "apiVersion": "v1", "metadata": meta, "items": chosen[token["start"] : end]}
        return Reply(200, json.loads(json.dumps(body)))

    def _delete(self, job: Object, request: Request) -> Reply:
        options = request.json() or {}
        wanted = options.get("preconditions", {}).get("resourceVersion")
        if wanted not in (None, job["metadata"]["resourceVersion"]):
            return status(409, "Conflict", "the object has been modified")
        policy = options.get("propagationPolicy", "Background")
        if policy not in ("Orphan", "Background", "Foreground"):
            return status(422, "Invalid", f"DeleteOptions.meta.k8s.io is invalid: propagationPolicy: {policy!r}")
        self.controllers.delete(job, policy)
        return Reply(200, job)

    def _log(self, pod: Object, query: dict[str, str]) -> Reply:
        file, container = self.controllers.log_of(pod), pod["spec"]["containers"][0]["name"]
        if not file.exists():
            said = f'container "{container}" in pod "{pod["metadata"]["name"]}" is waiting to start: ContainerCreating'
            return status(400, "BadRequest", said)
        lines = file.read_bytes().splitlines(keepends=True)
        kept = b"".join(lines[-int(query["tailLines"]) :] if "tailLines" in query else lines)
        return Reply(200, kept[: int(query["limitBytes"])] if "limitBytes" in query else kept)


def _matches(item: Any, selector: str) -> bool:
    """Say whether an item's labels match `key=value` or `key in (a,b)`, the two forms that are asked for."""
    labels = item["metadata"].get("labels", {})
    found = re.fullmatch(r"(?P<key>[\w./-]+)(?:=(?P<one>[\w.-]+)| in \((?P<many>[^)]*)\))", selector)
    assert found is not None, f"not a selector that the stand-in knows: {selector}"
    return labels.get(found["key"]) in ((found["many"] or found["one"]).split(","))


@contextmanager
def kubernetes_stand_in(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[Kubernetes]:
    controllers = Controllers(folder)
    made = Kubernetes("", controllers, folder / "account-token")
    made.renew_token()
    try:
        with served(made.answer, tls) as address, ticking(controllers.tick):
            made.address = address
            yield made
    finally:
        controllers.nodes.close()
