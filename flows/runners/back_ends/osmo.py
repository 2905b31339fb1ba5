"""NVIDIA OSMO: an order is a workflow of one task, spoken of to its service over HTTP.

Built from the API that OSMO documents; it was run against a stand-in (tests/clusters) and against no OSMO.

- OSMO has no idempotent submission. So it is asked first whether a workflow of the order's name is there, and the
  wrapper's turn in the ledger lets only one of several do anything.
- Orders are looked for together, by label. Services before 6.4 know no labels in lists and answer with all; so what
  counts is the workflow's name.
- COMPLETED is not believed any more than another end: the ledger knows what the wrapper made.
- The access token of a service account is exchanged for a short one, which is sent until it is refused.
"""

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flows.runners.back_ends.http import Answer, Caller
from flows.runners.back_ends.interface import BackEndError, Order
from flows.runners.back_ends.kubernetes_job import LABEL, legal_name
from flows.runners.back_ends.launch import Launch
from flows.runners.back_ends.osmo_workflow import TASK, WorkflowSettings, order_of, seen_of, workflow_of
from flows.steps.orders import Seen

AT_ONCE = 50
PAGE = 1000
MAX_PAGES = 10
LOG_LINES = 2000
UNAUTHORIZED, NOT_FOUND, BAD_REQUEST = 401, 404, 400
ADVICE = {
    401: "the access token in auth_token_file is not taken: it may have expired",
    403: "the service account needs a role that may submit to this pool",
    429: "the service has too much to do, it is asked again",
}


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """`address` is the service's; `auth_token_file` holds a service account's access token."""

    address: str
    auth_token_file: Path | None = None


class OsmoBackEnd:
    runs_images = True

    def __init__(self, launch: Launch, settings: WorkflowSettings, service: ServiceSettings) -> None:
        self._launch, self._settings, self._token_file = launch, settings, service.auth_token_file
        self._short: str | None = None
        self._lock = threading.Lock()
        self._api = Caller("OSMO", service.address, lambda: self._short)

    def submit(self, order: Order) -> None:
        if self._entries([legal_name(order.name)]):
            return
        path = f"/api/pool/{quote(self._settings.pool, safe='')}/workflow"
        body = {"file": workflow_of(order, self._launch, self._settings), "set_variables": []}
        answer = self._ask("POST", path, params={"priority": self._settings.priority}, json=body)
        if not answer.ok:
            raise _refused(f"the workflow of {order.name}", answer)

    def see(self, names: Collection[str]) -> Mapping[str, Seen]:
        wanted = {legal_name(name): name for name in names}
        legal = list(wanted)
        seen: dict[str, Seen] = {}
        for first in range(0, len(legal), AT_ONCE):
            for entry in self._entries(legal[first : first + AT_ONCE]):
                name, one = wanted[order_of(entry["name"])], seen_of(entry)
                if name not in seen or (one.alive and not seen[name].alive):  # the latest comes first
                    seen[name] = one
        return seen

    def _entries(self, legal: list[str]) -> list[dict[str, Any]]:
        """Return what OSMO lists of orders, the latest first; more than is asked for may come, see above."""
        return [entry for entry in self._list(legal) if order_of(str(entry.get("name"))) in set(legal)]

    def _list(self, legal: list[str]) -> Iterator[dict[str, Any]]:
        label = f"{LABEL}={legal[0] if len(legal) == 1 else '(' + '|'.join(legal) + ')'}"
        asked = {"label": label, "pools": self._settings.pool, "order": "DESC", "limit": str(PAGE)}
        if len(legal) == 1:
            asked["name"] = legal[0]
        for page in range(MAX_PAGES):
            answer = self._ask("GET", "/api/workflow", params=asked | {"offset": str(page * PAGE)})
            if not answer.ok:
                raise _refused("its list of workflows", answer)
            told = answer.read()
            yield from told.get("workflows") or []
            if not told.get("more_entries"):
                return

    def cancel(self, name: str) -> None:
        for entry in self._entries([legal_name(name)]):
            if seen_of(entry).alive:
                path, message = f"{_path(entry)}/cancel", {"message": "fleetloop no longer wants it"}
                answer = self._ask("POST", path, params=message)
                if not answer.ok and answer.status not in (NOT_FOUND, BAD_REQUEST):  # it has ended meanwhile
                    raise _refused(f"the end of {name}", answer)

    def logs(self, name: str) -> str:
        entries = self._entries([legal_name(name)])
        if not entries:
            return ""
        answer = self._api.tail(f"{_path(entries[0])}/logs", params={"task_name": TASK, "last_n_lines": str(LOG_LINES)})
        if answer.status in (NOT_FOUND, BAD_REQUEST):  # its task has not begun
            return ""
        if not answer.ok:
            raise _refused(f"the log of {name}", answer)
        return answer.body.decode(errors="replace")

    def close(self) -> None:
        self._api.close()

    def _ask(self, method: str, path: str, **values: Any) -> Answer:
        """Ask with the short token that is at hand, once more with a new one if it is refused."""
        if self._token_file and not self._short:
            self._sign_in()
        answer = self._api.ask(method, path, **values)
        if answer.status != UNAUTHORIZED or not self._token_file:
            return answer
        self._sign_in()
        return self._api.ask(method, path, **values)

    def _sign_in(self) -> None:
        with self._lock:
            self._short = None
            answer = self._api.ask("POST", "/api/auth/jwt/access_token", json={"token": self._access_token()})
            if not answer.ok:
                raise _refused("a token", answer)
            self._short = str(answer.read().get("token") or "")
            if not self._short:
                raise BackEndError("OSMO gives no token for the access token in auth_token_file")

    def _access_token(self) -> str:
        try:
            return self._token_file.read_text().strip() if self._token_file else ""
        except OSError as error:
            raise BackEndError(f"the access token of OSMO: {error}") from error


def _path(entry: Mapping[str, Any]) -> str:
    return f"/api/workflow/{quote(str(entry['name']), safe='')}"


def _refused(what: str, answer: Answer) -> BackEndError:
    """Say what OSMO does not do, in its own words, and what to do about it."""
    try:
        told = answer.read()
        said = str(told.get("message") or told.get("detail") or "")[:500]
    except BackEndError:
        said = answer.last_line
    advice = f" ({ADVICE[answer.status]})" if answer.status in ADVICE else ""
    return BackEndError(f"OSMO refuses {what}: {answer.status} {said}{advice}")
