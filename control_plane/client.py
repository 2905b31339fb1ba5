"""The typed client of `/api/v1`: what flows, the command line and users' scripts speak with the control plane.

It shares the server's schemas and carries no server. Every call may be repeated: transport failures and 503 are tried
again with back-off until `patience_s` is over, so a restarted API or database only delays.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter

from control_plane.access.schemas import PersonCreate, PersonItem, PersonPatch, TokenCreate, TokenItem, TokenMade
from control_plane.audit.schemas import AuditCheck, AuditItem
from control_plane.datasets.schemas import Dataset, DatasetCreate, DatasetItem
from control_plane.evaluation.schemas import (
    Backtest,
    BacktestCreate,
    CaseItem,
    CoverageItem,
    EvaluationCreate,
    EvaluationItem,
    GateCreate,
    GateItem,
    GateReplayItem,
    GateReplayPut,
    PartPlanItem,
    PlanCreate,
    PredictionItem,
    ReplayItem,
    ResultsCreate,
    ScenarioCheck,
    ScenarioItem,
    ScenarioWish,
    StopItem,
    SuiteCreate,
    SuiteItem,
)
from control_plane.factory.schemas import (
    AttemptCreate,
    AttemptFinish,
    AttemptRenew,
    ClusterItem,
    ClusterPut,
    FileRef,
    JobCreate,
    JobItem,
    Ledger,
)
from control_plane.fleet.schemas import (
    DeviceClassItem,
    DeviceClassPut,
    DeviceItem,
    EnrolmentTokenCreate,
    EnrolmentTokenItem,
    FleetLine,
)
from control_plane.kit.pages import Page
from control_plane.lineage.schemas import LineageGraph
from control_plane.pipelines.schemas import (
    Heartbeat,
    PipelineItem,
    PipelinePut,
    RunCreate,
    RunFinish,
    RunItem,
    StepPut,
)
from control_plane.registry.schemas import (
    ArtifactCreate,
    ArtifactTicket,
    AttestationCreate,
    AttestationItem,
    ModelItem,
    ModelPut,
    ReleaseCreate,
    ReleaseItem,
    RevocationCreate,
    RevocationItem,
    TrustItem,
    VersionCreate,
    VersionItem,
)
from control_plane.review.schemas import ReviewAnswerCreate, ReviewItem
from control_plane.rollout.schemas import (
    BaselineItem,
    DecisionItem,
    DeploymentItem,
    Explanation,
    ForecastItem,
    RolloutCreate,
    RolloutItem,
    RolloutPlan,
    RolloutReplay,
    RolloutWish,
    TallyItem,
)
from control_plane.telemetry.schemas import FieldEventItem, Rate, RateLine, RecordingItem
from control_plane.training.schemas import TrainingCreate, TrainingFinish, TrainingItem

Item = TypeVar("Item")
Answer = TypeVar("Answer")
CHUNK_BYTES = 1 << 20


class ClientError(Exception):
    """The control plane refused or could not be reached; `code` is the problem's code."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class Client:
    """One control plane, one token."""

    def __init__(self, server: str, token: str, *, patience_s: float = 60.0, timeout_s: float = 60.0) -> None:
        self.server = server.rstrip("/")
        self._patience_s = patience_s
        self._http = httpx.Client(timeout=timeout_s)
        self._headers = {"Authorization": f"Bearer {token}"}

    def close(self) -> None:
        self._http.close()

    # What everything below is made of.

    def request(
        self, method: str, path: str, *, body: BaseModel | None = None, key: str | None = None, **query: Any
    ) -> Any:
        """Call `/api/v1PATH`; `key` is the idempotency key of a create."""
        headers = self._headers | ({"Content-Type": "application/json"} if body else {})
        headers |= {"Idempotency-Key": key} if key else {}
        params = {name: value for name, value in query.items() if value is not None}
        content = body.model_dump_json() if body else None
        url = f"{self.server}/api/v1{path}"
        answer = self._patiently(
            lambda: _checked(self._http.request(method, url, content=content, headers=headers, params=params))
        )
        return answer.json() if answer.content else None

    def read_bytes(self, path: str) -> bytes:
        """Return the body of `/api/v1PATH` as it is: what was signed must not be parsed and written again."""
        url = f"{self.server}/api/v1{path}"
        return self._patiently(lambda: _checked(self._http.get(url, headers=self._headers))).content

    def _patiently(self, call: Callable[[], Answer]) -> Answer:
        """Call until it succeeds, is refused, or patience is over; what is called must bear repetition."""
        give_up = time.monotonic() + self._patience_s
        attempt = 0
        while True:
            try:
                return call()
            except httpx.TransportError as error:
                failure = ClientError(0, "unreachable", f"{self.server} does not answer: {error!r}")
            except ClientError as error:
                if error.status != 503:
                    raise
                failure = error
            pause_s = 0.1 * 2 ** min(attempt, 4)
            if time.monotonic() + pause_s > give_up:
                raise failure
            time.sleep(pause_s)
            attempt += 1

    def _one(self, kind: type[Item], method: str, path: str, **values: Any) -> Item:
        return TypeAdapter(kind).validate_python(self.request(method, path, **values))

    def pages(self, kind: type[Item], path: str, **query: Any) -> Iterator[Item]:
        """Walk all pages of a list."""
        after: str | None = None
        while True:
            page = self._one(Page[Any], "GET", path, after=after, limit=200, **query)
            yield from (TypeAdapter(kind).validate_python(item) for item in page.items)
            after = page.next
            if after is None:
                return

    # Artifacts.

    def upload(self, path: Path) -> FileRef:
        """Put a file into the object store, unless it is there; return its digest and size."""
        sha256, size_bytes = file_digest(path)
        ticket = self._one(
            ArtifactTicket, "POST", "/artifacts", body=ArtifactCreate(sha256=sha256, size_bytes=size_bytes)
        )
        if ticket.upload_url is not None:
            url = self._absolute(ticket.upload_url)
            headers = {"Content-Length": str(size_bytes), "Content-Type": "application/octet-stream"}
            self._patiently(lambda: self._put(url, path, headers))
        return FileRef(sha256=sha256, size_bytes=size_bytes)

    def _put(self, url: str, path: Path, headers: dict[str, str]) -> httpx.Response:
        with path.open("rb") as file:
            return _checked(self._http.put(url, content=iter(lambda: file.read(CHUNK_BYTES), b""), headers=headers))

    def download(self, sha256: str, target: Path) -> None:
        """Get a file; it appears under its name only once its digest is right."""
        self._patiently(lambda: self._download_once(sha256, target))

    def _download_once(self, sha256: str, target: Path) -> None:
        ticket = self._one(ArtifactTicket, "GET", f"/artifacts/{sha256}")
        url = self._absolute(ticket.download_url or "")
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: another download of the same file must not write into this one.
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name[:40]}.", delete=False) as file:
            partial = Path(file.name)
            try:
                digest = self._stream_into(url, file)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
        if digest != sha256:
            partial.unlink()
            raise ClientError(0, "corrupt", f"{sha256} arrived with another digest")
        partial.replace(target)

    def _stream_into(self, url: str, file: IO[bytes]) -> str:
        digest = hashlib.sha256()
        with self._http.stream("GET", url) as answer:
            _checked(answer)
            for chunk in answer.iter_bytes(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def _absolute(self, url: str) -> str:
        return f"{self.server}{url}" if url.startswith("/") else url

    # Factory.

    def put_cluster(self, name: str, body: ClusterPut) -> ClusterItem:
        return self._one(ClusterItem, "PUT", f"/clusters/{name}", body=body)

    def submit_job(self, body: JobCreate) -> JobItem:
        return self._one(JobItem, "POST", "/jobs", body=body)

    def get_job(self, key: str) -> JobItem:
        return self._one(JobItem, "GET", f"/jobs/{key}")

    def list_jobs(self, **query: Any) -> Iterator[JobItem]:
        return self.pages(JobItem, "/jobs", **query)

    def start_attempt(self, key: str, body: AttemptCreate) -> JobItem:
        return self._one(JobItem, "POST", f"/jobs/{key}/attempts", body=body)

    def renew_attempt(self, key: str, body: AttemptRenew) -> JobItem:
        return self._one(JobItem, "POST", f"/jobs/{key}/renew", body=body)

    def finish_attempt(self, key: str, body: AttemptFinish) -> JobItem:
        return self._one(JobItem, "POST", f"/jobs/{key}/finish", body=body)

    def ledger(self, by: str = "kind", run_id: str | None = None) -> Ledger:
        return self._one(Ledger, "GET", "/ledger", by=by, run_id=run_id)

    # Fleet and telemetry.

    def put_device_class(self, name: str, body: DeviceClassPut) -> DeviceClassItem:
        return self._one(DeviceClassItem, "PUT", f"/device-classes/{name}", body=body)

    def create_enrolment_token(self, body: EnrolmentTokenCreate, key: str | None = None) -> EnrolmentTokenItem:
        return self._one(EnrolmentTokenItem, "POST", "/enrolment-tokens", body=body, key=key)

    def list_devices(self, **query: Any) -> Iterator[DeviceItem]:
        return self.pages(DeviceItem, "/devices", **query)

    def get_device(self, device_id: str) -> DeviceItem:
        return self._one(DeviceItem, "GET", f"/devices/{device_id}")

    def fleet_summary(self) -> list[FleetLine]:
        return self._one(list[FleetLine], "GET", "/devices/summary")

    def list_events(self, **query: Any) -> Iterator[FieldEventItem]:
        return self.pages(FieldEventItem, "/events", **query)

    def list_recordings(self, **query: Any) -> Iterator[RecordingItem]:
        return self.pages(RecordingItem, "/recordings", **query)

    def exposure(self, content: str | None = None) -> list[RateLine]:
        return self._one(list[RateLine], "GET", "/exposure", content=content)

    def rate(self, content: str, model: str) -> Rate:
        return self._one(Rate, "GET", f"/models/{model}/rate", content=content)

    # Datasets, training, registry.

    def publish_dataset(self, body: DatasetCreate) -> DatasetItem:
        return self._one(DatasetItem, "POST", "/datasets", body=body)

    def get_dataset(self, digest: str) -> Dataset:
        return self._one(Dataset, "GET", f"/datasets/{digest}")

    def list_datasets(self) -> Iterator[DatasetItem]:
        return self.pages(DatasetItem, "/datasets")

    def ask_training(self, body: TrainingCreate) -> TrainingItem:
        return self._one(TrainingItem, "POST", "/trainings", body=body)

    def finish_training(self, key: str, body: TrainingFinish) -> TrainingItem:
        return self._one(TrainingItem, "POST", f"/trainings/{key}/finish", body=body)

    def put_model(self, name: str, body: ModelPut) -> ModelItem:
        return self._one(ModelItem, "PUT", f"/models/{name}", body=body)

    def get_model(self, name: str) -> ModelItem:
        return self._one(ModelItem, "GET", f"/models/{name}")

    def list_models(self) -> list[ModelItem]:
        return self._one(list[ModelItem], "GET", "/models")

    def register_version(self, model: str, body: VersionCreate) -> VersionItem:
        return self._one(VersionItem, "POST", f"/models/{model}/versions", body=body)

    def get_version(self, content_digest: str) -> VersionItem:
        return self._one(VersionItem, "GET", f"/versions/{content_digest}")

    def list_versions(self, model: str) -> list[VersionItem]:
        return self._one(list[VersionItem], "GET", f"/models/{model}/versions")

    def create_release(self, body: ReleaseCreate, key: str | None = None) -> ReleaseItem:
        return self._one(ReleaseItem, "POST", "/releases", body=body, key=key)

    def get_release(self, digest: str) -> ReleaseItem:
        return self._one(ReleaseItem, "GET", f"/releases/{digest}")

    def get_release_manifest(self, digest: str) -> bytes:
        """Return the exact bytes whose sha256 is the release's digest; check that before believing them."""
        return self.read_bytes(f"/releases/{digest}/manifest")

    def add_attestation(self, body: AttestationCreate) -> AttestationItem:
        return self._one(AttestationItem, "POST", "/attestations", body=body)

    def list_attestations(self, digest: str) -> list[AttestationItem]:
        return self._one(list[AttestationItem], "GET", f"/attestations/{digest}")

    def revoke(self, body: RevocationCreate) -> RevocationItem:
        return self._one(RevocationItem, "POST", "/trust/revocations", body=body)

    def get_trust(self) -> TrustItem:
        return self._one(TrustItem, "GET", "/trust")

    def list_releases(self, model: str | None = None) -> list[ReleaseItem]:
        return self._one(list[ReleaseItem], "GET", "/releases", model=model)

    # Evaluation and rollout.

    def create_suite(self, body: SuiteCreate) -> SuiteItem:
        return self._one(SuiteItem, "POST", "/suites", body=body)

    def create_evaluation(self, body: EvaluationCreate) -> EvaluationItem:
        return self._one(EvaluationItem, "POST", "/evaluations", body=body)

    def list_evaluations(self) -> Iterator[EvaluationItem]:
        return self.pages(EvaluationItem, "/evaluations")

    def get_evaluation(self, evaluation_id: str) -> EvaluationItem:
        return self._one(EvaluationItem, "GET", f"/evaluations/{evaluation_id}")

    def list_cases(self, evaluation_id: str) -> list[CaseItem]:
        return self._one(list[CaseItem], "GET", f"/evaluations/{evaluation_id}/cases")

    def add_results(self, evaluation_id: str, body: ResultsCreate) -> EvaluationItem:
        return self._one(EvaluationItem, "POST", f"/evaluations/{evaluation_id}/results", body=body)

    def ask_stop(self, body: GateCreate) -> list[StopItem]:
        return self._one(list[StopItem], "POST", "/gates/stop", body=body)

    def ask_gate(self, body: GateCreate) -> GateItem:
        return self._one(GateItem, "POST", "/gates", body=body)

    def get_gate(self, gate_id: str) -> GateItem:
        return self._one(GateItem, "GET", f"/gates/{gate_id}")

    def list_gates(self, **query: Any) -> Iterator[GateItem]:
        return self.pages(GateItem, "/gates", **query)

    # The gate's evidence, incidents as scenarios, and simulation against the field.

    def plan_gate(self, body: PlanCreate) -> list[PartPlanItem]:
        return self._one(list[PartPlanItem], "POST", "/gates/plan", body=body)

    def replay_gate(self, gate_id: str) -> ReplayItem:
        return self._one(ReplayItem, "POST", f"/gates/{gate_id}/replay")

    def put_replay(self, gate_id: str, body: GateReplayPut) -> GateReplayItem:
        return self._one(GateReplayItem, "PUT", f"/gates/{gate_id}/replays", body=body)

    def list_replays(self, gate_id: str) -> list[GateReplayItem]:
        return self._one(list[GateReplayItem], "GET", f"/gates/{gate_id}/replays")

    def backtest(self, body: BacktestCreate) -> Backtest:
        return self._one(Backtest, "POST", "/gates/backtest", body=body)

    def list_scenarios(self, model: str) -> list[ScenarioItem]:
        return self._one(list[ScenarioItem], "GET", f"/models/{model}/scenarios")

    def put_scenario(self, model: str, source: str, body: ScenarioCheck) -> ScenarioItem:
        return self._one(ScenarioItem, "PUT", f"/models/{model}/scenarios/{source}", body=body)

    def wish_scenario(self, model: str, source: str, body: ScenarioWish) -> ScenarioItem:
        return self._one(ScenarioItem, "POST", f"/models/{model}/scenarios/{source}/wishes", body=body)

    def coverage(self, model: str) -> CoverageItem:
        return self._one(CoverageItem, "GET", f"/models/{model}/coverage")

    def prediction(self, model: str) -> PredictionItem:
        return self._one(PredictionItem, "GET", f"/models/{model}/prediction")

    def create_rollout(self, body: RolloutCreate, key: str | None = None) -> RolloutItem:
        return self._one(RolloutItem, "POST", "/rollouts", body=body, key=key)

    def get_rollout(self, rollout_id: str) -> RolloutItem:
        return self._one(RolloutItem, "GET", f"/rollouts/{rollout_id}")

    def list_rollouts(self) -> Iterator[RolloutItem]:
        return self.pages(RolloutItem, "/rollouts")

    def rollout_decisions(self, rollout_id: str) -> list[DecisionItem]:
        return self._one(list[DecisionItem], "GET", f"/rollouts/{rollout_id}/decisions")

    def list_deployments(self, rollout_id: str) -> list[DeploymentItem]:
        """Walk all devices of a rollout."""
        found: list[DeploymentItem] = []
        while True:
            after = found[-1].device_id if found else None
            page = self._one(list[DeploymentItem], "GET", f"/rollouts/{rollout_id}/deployments", after=after, limit=500)
            found += page
            if len(page) < 500:
                return found

    def wish_rollout(self, rollout_id: str, body: RolloutWish) -> RolloutItem:
        return self._one(RolloutItem, "POST", f"/rollouts/{rollout_id}/wishes", body=body)

    def plan_rollout(self, body: RolloutPlan) -> ForecastItem:
        return self._one(ForecastItem, "POST", "/rollouts/plan", body=body)

    def tally_rollout(self, rollout_id: str) -> list[TallyItem]:
        return self._one(list[TallyItem], "GET", f"/rollouts/{rollout_id}/tally")

    def explain_rollout(self, rollout_id: str) -> Explanation:
        return self._one(Explanation, "GET", f"/rollouts/{rollout_id}/explanation")

    def explain_device(self, device_id: str) -> Explanation:
        return self._one(Explanation, "GET", f"/devices/{device_id}/explanation")

    def replay_rollout(self, rollout_id: str) -> RolloutReplay:
        return self._one(RolloutReplay, "POST", f"/rollouts/{rollout_id}/replay")

    def list_baselines(self) -> list[BaselineItem]:
        return self._one(list[BaselineItem], "GET", "/baselines")

    # Pipelines.

    def put_pipeline(self, name: str, body: PipelinePut) -> PipelineItem:
        return self._one(PipelineItem, "PUT", f"/pipelines/{name}", body=body)

    def get_pipeline(self, name: str) -> PipelineItem:
        return self._one(PipelineItem, "GET", f"/pipelines/{name}")

    def list_pipelines(self) -> list[PipelineItem]:
        return self._one(list[PipelineItem], "GET", "/pipelines")

    def request_run(self, pipeline: str, body: RunCreate, key: str | None = None) -> RunItem:
        return self._one(RunItem, "POST", f"/pipelines/{pipeline}/runs", body=body, key=key)

    def get_run(self, run_id: str) -> RunItem:
        return self._one(RunItem, "GET", f"/runs/{run_id}")

    def list_runs(self, **query: Any) -> Iterator[RunItem]:
        return self.pages(RunItem, "/runs", **query)

    def heartbeat_run(self, run_id: str, attempt: int) -> RunItem:
        return self._one(RunItem, "POST", f"/runs/{run_id}/heartbeat", body=Heartbeat(attempt=attempt))

    def put_step(self, run_id: str, name: str, body: StepPut) -> RunItem:
        return self._one(RunItem, "PUT", f"/runs/{run_id}/steps/{name}", body=body)

    def finish_run(self, run_id: str, body: RunFinish) -> RunItem:
        return self._one(RunItem, "POST", f"/runs/{run_id}/finish", body=body)

    # Review, lineage, audit.

    def list_reviews(self, **query: Any) -> Iterator[ReviewItem]:
        return self.pages(ReviewItem, "/reviews", **query)

    def answer_review(self, review_id: str, body: ReviewAnswerCreate) -> ReviewItem:
        return self._one(ReviewItem, "POST", f"/reviews/{review_id}/answers", body=body)

    def lineage(self, kind: str, name: str, direction: str = "up", depth: int = 20) -> LineageGraph:
        return self._one(LineageGraph, "GET", f"/lineage/{kind}/{name}", direction=direction, depth=depth)

    def list_audit(self, **query: Any) -> Iterator[AuditItem]:
        return self.pages(AuditItem, "/audit", **query)

    def create_token(self, body: TokenCreate) -> TokenMade:
        return self._one(TokenMade, "POST", "/tokens", body=body)

    def list_tokens(self) -> list[TokenItem]:
        return self._one(list[TokenItem], "GET", "/tokens")

    def revoke_token(self, name: str) -> None:
        self.request("DELETE", f"/tokens/{name}")

    def create_person(self, body: PersonCreate) -> PersonItem:
        return self._one(PersonItem, "POST", "/people", body=body)

    def list_people(self) -> list[PersonItem]:
        return self._one(list[PersonItem], "GET", "/people")

    def patch_person(self, name: str, body: PersonPatch) -> PersonItem:
        return self._one(PersonItem, "PATCH", f"/people/{name}", body=body)

    def check_audit(self) -> AuditCheck:
        return self._one(AuditCheck, "GET", "/audit/check")


def file_digest(path: Path) -> tuple[str, int]:
    """Return a file's sha256 in hex and its size in bytes."""
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
    return digest.hexdigest(), size_bytes


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    raise _error(answer)


def _error(answer: httpx.Response) -> ClientError:
    answer.read()
    try:
        problem: Mapping[str, Any] = answer.json()
        return ClientError(answer.status_code, str(problem["code"]), str(problem["detail"]))
    except (ValueError, KeyError, TypeError):
        return ClientError(answer.status_code, "http_error", answer.text[:300])
