"""Gather all that decides beside results: reviews, training data, hidden suites, incidents, trust in the simulator."""

from collections.abc import Sequence
from typing import Any

from control_plane.datasets import service as datasets
from control_plane.evaluation import store
from control_plane.evaluation.domain import (
    Context,
    GatePolicy,
    HoldoutUse,
    NoOverlap,
    Overlap,
    PairedSuite,
    PartVerdict,
    Trained,
    Verdict,
    overlaps,
)
from control_plane.evaluation.schemas import GateCreate
from control_plane.evaluation.service.field import trust_in_simulator
from control_plane.evaluation.service.incidents import left_out
from control_plane.evaluation.service.suites import HOLDOUT
from control_plane.kit.db import Session
from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem, VersionItem

MOST_ANCESTORS = 100


async def gather(
    session: Session,
    model: ModelItem,
    policy: GatePolicy,
    body: GateCreate,
    paired: Sequence[PairedSuite],
    *,
    whole: bool,
) -> Context:
    """Return the context without reviews: which questions there are follows from the first decision.

    Not `whole`: only what a suite is judged by, for the frequent question whether to go on simulating.
    """
    return Context(
        device_classes=tuple(sorted(set(body.device_classes))),
        overlaps=await _overlaps(session, body.candidate, paired) if whole and _asks(policy) else None,
        holdout=await _holdout(session, policy, body, paired),
        left_out=await _left_out(session, body.model, paired),
        trust=await trust_in_simulator(session, model, body.candidate) if whole else None,
    )


def _asks(policy: GatePolicy) -> bool:
    return any(isinstance(part, NoOverlap) for part in (*policy.parts, *policy.first))


async def _overlaps(session: Session, candidate: str, paired: Sequence[PairedSuite]) -> tuple[Overlap, ...] | None:
    trained = await _trained(session, candidate)
    if trained is None:
        return None
    return tuple(found for suite in paired for found in overlaps(suite.suite, suite.scenarios, trained))


async def _trained(session: Session, candidate: str) -> list[Trained] | None:
    """Collect what a version and its ancestors were trained on; None where nobody wrote down how it came about."""
    clips: list[Trained] = []
    version: VersionItem | None = await registry.get_version(session, candidate)
    if version is not None and version.dataset is None and version.training is None:
        return None
    for _ in range(MOST_ANCESTORS):
        if version is None:
            break
        clips += await _clips(session, version.dataset)
        version = await registry.get_version(session, version.parent) if version.parent else None
    return clips


async def _clips(session: Session, dataset: str | None) -> list[Trained]:
    if dataset is None:
        return []
    manifest: dict[str, Any] = (await datasets.get(session, dataset)).manifest
    found = [
        Trained(clip["recording"], clip["event_id"] or "", clip["group"], clip.get("fingerprint", ""))
        for clip in manifest["clips"]
        if clip["split"] == "train"
    ]
    for parent in manifest["parents"]:
        found += await _clips(session, parent)
    return found


async def _left_out(session: Session, model: str, paired: Sequence[PairedSuite]) -> dict[str, tuple[str, ...]]:
    if not any(suite.kind == "regression" for suite in paired):
        return {}
    names = set(await left_out(session, model))
    found = {}
    for suite in paired:
        here = {planned.cluster for planned in suite.scenarios} & names if suite.kind == "regression" else set[str]()
        if here:
            found[suite.suite] = tuple(sorted(here))
    return found


async def _holdout(
    session: Session, policy: GatePolicy, body: GateCreate, paired: Sequence[PairedSuite]
) -> dict[str, HoldoutUse]:
    """Say for each hidden suite how many candidates of this model have looked at it, and what this one was told."""
    found = {}
    for digest, suite in zip(body.suites, paired, strict=True):
        if suite.kind != HOLDOUT:
            continue
        uses = await store.holdout_uses(session, body.model, digest)
        mine = next((use for use in uses if use.candidate == body.candidate), None)
        answers = tuple(PartVerdict(**{**a, "verdict": Verdict(a["verdict"])}) for a in mine.answers) if mine else ()
        spent = mine is None and len(uses) >= policy.holdout_budget
        found[suite.suite] = HoldoutUse(len(uses), policy.holdout_budget, spent, answers)
    return found
