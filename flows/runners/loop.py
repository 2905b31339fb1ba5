"""Once round the loop, from recordings to a planned rollout, as plain calls; Prefect only wraps them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from control_plane.client import ClientError
from control_plane.kit import tracing
from control_plane.pipelines.schemas import RunFinish
from control_plane.registry.schemas import VersionItem
from flows.runners import stages
from flows.runners.replays import Shown, show_flips
from flows.runners.session import RunLostError, RunSession, open_run

Answer = TypeVar("Answer")
Do = Callable[[str, Callable[[], Any]], Any]


def champion_of(run: RunSession) -> VersionItem | None:
    """Return the version that the workload's devices run now, if they run one."""
    given = run.params.get("champion")
    if given:
        return run.client.get_version(str(given))
    for baseline in run.client.list_baselines():
        if baseline.device_class == run.workload.spec.device_class:
            return run.client.get_version(baseline.content_digest)
    return None


def loop(run: RunSession, do: Do) -> dict[str, Any]:
    """Go round: with no champion a first version is pretrained; otherwise the field's recordings are learned from."""
    champion: VersionItem | None = do("champion", lambda: champion_of(run))
    dataset: str | None = run.params.get("dataset")
    if champion is None:
        candidate: VersionItem = do("pretrain", lambda: stages.pretrain(run))
    else:
        if dataset is None:
            recorded = do("ingest", lambda: stages.ingest(run))
            dataset = do("curate", lambda: stages.curate(run, recorded)).digest
        parent = run.client.get_version(str(run.params.get("parent") or champion.content_digest))
        candidate = do("retrain", lambda: stages.retrain(run, dataset or "", parent))
    suites = do("suites", lambda: stages.make_suites(run, dataset))
    evaluated = do("evaluate", lambda: stages.evaluate(run, candidate, champion, suites, dataset))
    gate = do("gate", lambda: stages.ask_gate(run, candidate, champion, evaluated))
    rollout = do("promote", lambda: stages.promote(run, candidate, gate, first=champion is None))
    shown: Shown = do("replays", lambda: show_flips(run, candidate, champion, gate, suites))
    return {
        "candidate": candidate.content_digest,
        "version": candidate.version,
        "dataset": dataset,
        "champion": champion.content_digest if champion else None,
        "gate": gate.id,
        "verdict": gate.verdict,
        "because": gate.because,
        "stopped": evaluated.because,
        "rollout": rollout.id if rollout else None,
        "replays": asdict(shown),
    }


def run_flow(
    body: Callable[[RunSession, Do], dict[str, Any]],
    run_id: str,
    attempt: int,
    params: Mapping[str, Any],
    server: str,
    wrap: Callable[[RunSession], Do] | None = None,
    traceparent: str = "",
) -> dict[str, Any]:
    """Open a run, do it, and report its end; a lost run ends in silence because it is another attempt's."""
    with (
        tracing.span("run", parent=traceparent, kind="consumer", run__id=run_id, attempt=attempt),
        open_run(run_id, attempt, params, server) as run,
    ):
        try:
            result = body(run, wrap(run) if wrap else run.step)
        except RunLostError:
            return {"lost": True}
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"[:4000]
            _finish(run, RunFinish(attempt=attempt, state="failed", failure=failure))
            raise
        _finish(run, RunFinish(attempt=attempt, state="done", result=result))
        return result


def _finish(run: RunSession, body: RunFinish) -> None:
    try:
        run.client.finish_run(run.run_id, body)
    except ClientError as error:
        if error.code not in ("attempt_lost", "run_over"):
            raise
