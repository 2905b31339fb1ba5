"""What people sign for a release, made from its manifest alone: by the server that offers it and by who signs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.protocol.v1 import ReleaseManifest, sha256_hex, strict_json
from agents.protocol.v1.statement import APPROVAL, TRAINING_BUILD, Approval, Provenance, Result, statement_bytes

MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms somebody approves."""

    approver: str
    approved_at: datetime
    not_after: datetime
    widest_stage: float = 1.0
    accepts: Result = Result.PASSED
    reason: str = ""


def approval_statement(manifest: bytes, terms: Terms, *, way_back: bool = False) -> bytes:
    """Return the canonical bytes to be signed.

    Raises:
        ValueError: the manifest is none, or the terms are out of range.
    """
    digest = sha256_hex(manifest)
    release = ReleaseManifest.model_validate(strict_json(manifest, MANIFEST_BYTES))
    approval = Approval(
        release_digest=digest,
        counter=release.counter,
        model=release.model,
        version=release.version,
        device_classes=release.device_classes,
        widest_stage=terms.widest_stage,
        accepts=Result.WARNED if terms.accepts is Result.WARNED else Result.PASSED,
        way_back=way_back,
        approver=terms.approver,
        reason=terms.reason,
        approved_at=terms.approved_at,
        not_after=terms.not_after,
    )
    return statement_bytes(f"{release.model} {release.version}, counter {release.counter}", digest, APPROVAL, approval)


def training_provenance(
    parameters: Mapping[str, Any],
    made_from: Mapping[str, str | None],
    *,
    builder: str,
    invocation: str,
    finished_at: datetime,
) -> Provenance:
    """Return how a version was trained, as trainers sign it and exports tell it.

    Args:
        parameters: what was asked for: model, recipe, seed.
        made_from: digests by what they are; what is None did not take part.
        builder: the URI of where it was trained.
        invocation: the job.
        finished_at: when the job ended.
    """
    return Provenance.model_validate(
        {
            "buildDefinition": {
                "buildType": TRAINING_BUILD,
                "externalParameters": dict(parameters),
                "resolvedDependencies": [
                    {"name": name, "digest": {"sha256": digest}} for name, digest in made_from.items() if digest
                ],
            },
            "runDetails": {
                "builder": {"id": builder},
                "metadata": {"invocationId": invocation, "finishedOn": finished_at},
            },
        }
    )
