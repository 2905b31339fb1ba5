"""Links both ways between a training and its run in MLflow, over MLflow's REST API; nothing of MLflow is imported.

A command that logs to MLflow writes `mlflow_run_id` into `report/report.json`. Where MLFLOW_TRACKING_URI is an address,
that run then carries what became of it here as tags, and the training's report its address there. MLflow that is away,
refuses or answers nonsense costs the link and says so in the report; the training is what it is.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import httpx

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 4 << 20
RUN_ID = re.compile(r"[0-9a-f]{32}")
EXPERIMENT_ID = re.compile(r"[0-9]{1,20}")


class MlflowError(RuntimeError):
    """Why there is no link; a sentence for people."""


def linked(
    report: Mapping[str, Any], tags: Mapping[str, str], environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Tag the run that a report names, and return what the report is to say besides; {} where it names none."""
    run_id, address = report.get("mlflow_run_id"), environment.get("MLFLOW_TRACKING_URI", "")
    if run_id is None or not address.startswith(("http://", "https://")):
        return {}
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        return {"mlflow_link": "mlflow_run_id is not 32 hex digits"}
    try:
        with _client(address, environment) as http:
            experiment = _experiment(http, run_id)
            for key, value in tags.items():
                _ask(http, "POST", "runs/set-tag", json={"run_id": run_id, "key": key, "value": value[:5000]})
    except (MlflowError, httpx.HTTPError, httpx.InvalidURL) as error:
        return {"mlflow_link": f"MLflow was not told: {str(error) or type(error).__name__}"[:300]}
    page = f"{_without_user(address)}/#/experiments/{experiment}/runs/{run_id}"
    return {"mlflow_link": "both ways", "mlflow_run_url": page}


def _client(address: str, environment: Mapping[str, str]) -> httpx.Client:
    """Return a client with the credentials that MLflow's own clients take from the environment."""
    token, user = environment.get("MLFLOW_TRACKING_TOKEN"), environment.get("MLFLOW_TRACKING_USERNAME")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    password = environment.get("MLFLOW_TRACKING_PASSWORD", "")
    auth = httpx.BasicAuth(user, password) if user and not token else None
    base = f"{address.rstrip('/')}/api/2.0/mlflow/"
    return httpx.Client(base_url=base, headers=headers, auth=auth, timeout=TIMEOUT_S, follow_redirects=False)


def _experiment(http: httpx.Client, run_id: str) -> str:
    found = _ask(http, "GET", "runs/get", params={"run_id": run_id})
    try:
        experiment = str(found["run"]["info"]["experiment_id"])
    except (KeyError, TypeError) as error:
        raise MlflowError("it does not say which experiment the run is of") from error
    if not EXPERIMENT_ID.fullmatch(experiment):
        raise MlflowError("its experiment's id is no number")
    return experiment


def _ask(http: httpx.Client, method: str, path: str, **values: Any) -> Any:
    with http.stream(method, path, **values) as answer:
        body = bytearray()
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise MlflowError(f"{path} answered more than {MAX_ANSWER_BYTES >> 20} MiB")
        if answer.status_code != 200:
            raise MlflowError(f"{path} answered {answer.status_code}")
    try:
        return httpx.Response(200, content=bytes(body)).json()
    except ValueError as error:
        raise MlflowError(f"{path} answered no JSON") from error


def _without_user(address: str) -> str:
    url = httpx.URL(address.rstrip("/"))
    return str(url.copy_with(username=None, password=None)).rstrip("/") if url.userinfo else str(url).rstrip("/")
