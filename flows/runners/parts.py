"""The loop's stages as runs of their own: what each needs comes as parameters, what it made goes into its result."""

from typing import Any

from control_plane.registry.schemas import VersionItem
from flows.runners import stages
from flows.runners.loop import Do, champion_of, loop
from flows.runners.session import RunSession


def ingest(run: RunSession, do: Do) -> dict[str, Any]:
    recorded = do("ingest", lambda: stages.ingest(run))
    return {"recordings": len(recorded), "incidents": sum(r.kind in run.workload.incident_kinds for r in recorded)}


def curate(run: RunSession, do: Do) -> dict[str, Any]:
    recorded = do("ingest", lambda: stages.ingest(run))
    dataset = do("curate", lambda: stages.curate(run, recorded))
    return {"dataset": dataset.digest, "clips": dataset.clips, "holdout": dataset.holdout}


def retrain(run: RunSession, do: Do) -> dict[str, Any]:
    """Parameters: `dataset`, and `parent` (a content digest; the champion if not given); neither: pretrain."""
    parent = _version(run, "parent") or champion_of(run)
    if parent is None:
        made: VersionItem = do("pretrain", lambda: stages.pretrain(run))
    else:
        made = do("retrain", lambda: stages.retrain(run, str(run.params["dataset"]), parent))
    return {"candidate": made.content_digest, "version": made.version}


def evaluate(run: RunSession, do: Do) -> dict[str, Any]:
    """Parameters: `candidate`, and optionally `champion` and `dataset` (for the incident regression suite)."""
    candidate, champion = run.client.get_version(str(run.params["candidate"])), champion_of(run)
    dataset = run.params.get("dataset")
    suites = do("suites", lambda: stages.make_suites(run, dataset))
    found = do("evaluate", lambda: stages.evaluate(run, candidate, champion, suites, dataset))
    return {"suites": found.suites, "evaluations": [e.id for e in found.evaluations], "stopped": found.because}


def gate(run: RunSession, do: Do) -> dict[str, Any]:
    """Parameters: `candidate`, `suites` (digests), and optionally `champion`. Simulates nothing."""
    candidate, champion = run.client.get_version(str(run.params["candidate"])), champion_of(run)
    evaluated = stages.Evaluated([str(s) for s in run.params["suites"]], [], [])
    said = do("gate", lambda: stages.ask_gate(run, candidate, champion, evaluated))
    return {"gate": said.id, "verdict": said.verdict, "because": said.because}


def promote(run: RunSession, do: Do) -> dict[str, Any]:
    """Parameters: `gate` (an id). Cuts a release and plans its rollout if the gate passed."""
    said = run.client.get_gate(str(run.params["gate"]))
    candidate = run.client.get_version(said.candidate)
    made = do("promote", lambda: stages.promote(run, candidate, said, first=said.champion is None))
    return {"rollout": made.id if made else None, "verdict": said.verdict}


def _version(run: RunSession, name: str) -> VersionItem | None:
    digest = run.params.get(name)
    return run.client.get_version(str(digest)) if digest else None


BODIES = {
    "ingest": ingest,
    "curate": curate,
    "retrain": retrain,
    "evaluate": evaluate,
    "gate": gate,
    "promote": promote,
    "loop": loop,
}
