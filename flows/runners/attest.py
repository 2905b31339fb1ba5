"""What the trainer signs: how a model version was made (SLSA provenance v1), with a key that only trainers hold."""

import os
from datetime import UTC, datetime
from pathlib import Path

from agents.protocol.v1 import digest_of, seal_envelope
from agents.protocol.v1.statement import PROVENANCE, STATEMENT_PAYLOAD, statement_bytes
from control_plane.factory.schemas import JobItem
from control_plane.kit.signing import read_signer
from control_plane.registry.domain import training_provenance
from control_plane.registry.schemas import AttestationCreate, VersionItem
from control_plane.training.schemas import TrainingItem
from flows.runners.session import RunSession

KEY = "FLEETLOOP_TRAINER_KEY"
"""Names the file of the trainer's ed25519 key. Without it a version stays without provenance, and is never released."""


def attest_training(run: RunSession, version: VersionItem, training: TrainingItem, job: JobItem) -> bool:
    """Sign and hand in the provenance of a version; False if this place has no trainer's key."""
    key = os.environ.get(KEY)
    if not key:
        return False
    statement = provenance_of(job.cluster, version, training, job, job.finished_at or datetime.now(UTC))
    envelope = seal_envelope(STATEMENT_PAYLOAD, statement, [read_signer(Path(key)).private])
    run.client.add_attestation(AttestationCreate(envelope=envelope.model_dump_json(by_alias=True)))
    return True


def provenance_of(
    cluster: str, version: VersionItem, training: TrainingItem, job: JobItem, finished_at: datetime
) -> bytes:
    """Return the canonical statement: every dependency is named by its sha256."""
    made_from: dict[str, str | None] = {
        "dataset": training.dataset, "parent": training.parent, "workload": training.code,
        # One digest over all of them: there may be thousands, and the job's record lists each.
        "inputs": digest_of({path: ref.sha256 for path, ref in job.spec.inputs.items()}),
    }  # fmt: skip
    predicate = training_provenance(
        {"model": training.model, "recipe": training.recipe, "seed": training.seed},
        made_from,
        builder=f"urn:fleetloop:cluster:{cluster}",
        invocation=job.key,
        finished_at=finished_at,
    )
    return statement_bytes(f"{version.model} {version.version}", version.content_digest, PROVENANCE, predicate)
