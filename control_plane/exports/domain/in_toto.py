"""An in-toto statement about a version: its files, and by SLSA provenance what they were made from.

- Where the trainer has signed, the statement says what the trainer said, and more: the recordings behind the dataset.
- Where nobody has, it says what the registry knows, in the same words.
- It is not signed. Several subjects and no envelope: no device takes it for what a trainer signs.
"""

import base64
import re
from collections.abc import Iterator
from typing import Any, Final

from agents.protocol.v1 import Envelope, canonical_json
from agents.protocol.v1.statement import PROVENANCE, STATEMENT_TYPE, Provenance, StatementError, read_statement
from control_plane.exports.domain.values import Making
from control_plane.registry.domain import training_provenance
from control_plane.registry.schemas import AttestationItem

DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
"""Code that was asked for by a name of somebody's own is no dependency with a digest; the run events tell its name."""
REGISTRATION: Final = "urn:fleetloop:build:registration:v1"
"""Nobody here trained it: somebody registered files."""


def statement_of(making: Making) -> bytes:
    """Return the statement as canonical JSON."""
    signed = _signed(making)
    predicate = (signed or _known(making)).model_dump(mode="json", by_alias=True, exclude_none=True)
    definition = predicate["buildDefinition"]
    definition["resolvedDependencies"] += _recordings(making)
    definition["internalParameters"] = _parameters(making, signed)
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": list(_subjects(making)),
            "predicateType": PROVENANCE,
            "predicate": predicate,
        }
    )


def _subjects(making: Making) -> Iterator[dict[str, Any]]:
    version = making.version
    yield {"name": f"{version.model} {version.version}", "digest": {"sha256": version.content_digest}}
    for file in version.content["files"]:
        yield {"name": str(file["path"]), "digest": {"sha256": str(file["sha256"])}}


def _recordings(making: Making) -> list[dict[str, Any]]:
    clips = making.dataset.clips.listed if making.dataset else ()
    return [{"name": f"recording/{split}", "digest": {"sha256": sha256}} for sha256, split in clips]


def _parameters(making: Making, signed: Provenance | None) -> dict[str, Any]:
    """Say what a reader must know: whether a trainer stands behind it, and how much is listed."""
    attestations = [item.sha256 for item in making.attestations]
    found: dict[str, Any] = {"saidByTrainer": signed is not None, "attestations": attestations}
    if making.dataset:
        clips = making.dataset.clips
        found |= {"recordings": clips.total, "recordingsListed": len(clips.listed)}
    return found


def _signed(making: Making) -> Provenance | None:
    """Return the newest provenance that the registry has; it took it in only because its signature was right then."""
    for item in reversed(making.attestations):
        if item.predicate_type == PROVENANCE and item.subject == making.version.content_digest:
            return _opened(item)
    return None


def _opened(item: AttestationItem) -> Provenance:
    """Return what the trainer said; one that cannot be read is a failure, not a version that nobody signed."""
    envelope = Envelope.model_validate_json(item.envelope)
    predicate = read_statement(base64.b64decode(envelope.payload, validate=True)).predicate
    if not isinstance(predicate, Provenance):
        raise StatementError(f"attestation {item.sha256} is kept as {PROVENANCE} and says something else")
    return predicate


def _known(making: Making) -> Provenance:
    version, training = making.version, making.training
    made_from = {"dataset": version.dataset, "parent": version.parent}
    if training is None:
        found = training_provenance(
            {"model": version.model},
            made_from,
            builder="urn:fleetloop:registry",
            invocation=version.id,
            finished_at=version.created_at,
        )
        definition = found.build_definition.model_copy(update={"build_type": REGISTRATION})
        return found.model_copy(update={"build_definition": definition})
    return training_provenance(
        {"model": training.model, "recipe": training.recipe, "seed": training.seed},
        made_from | {"workload": training.code if DIGEST.match(training.code) else None},
        builder="urn:fleetloop:trainer",
        invocation=str(training.report.get("job") or training.key),
        finished_at=training.finished_at or version.created_at,
    )
