"""Simulation against the field: what was driven and not simulated, and whether predictions held."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict

from control_plane.evaluation import store
from control_plane.evaluation.domain import (
    Ratio,
    Release,
    Seen,
    SiteCounts,
    Trust,
    calibrate,
    coverage,
    observed_ratio,
    trust_of,
)
from control_plane.evaluation.schemas import CellItem, CoverageItem, PredictionItem, RatioItem, ReleaseLine
from control_plane.evaluation.service.policies import policy_of
from control_plane.evaluation.service.suites import planned
from control_plane.kit.db import Row, Session
from control_plane.registry import service as registry
from control_plane.registry.schemas import ModelItem
from control_plane.telemetry import service as telemetry
from control_plane.telemetry.schemas import RateLine

MOST_EVENTS = 20_000
PAGE = 500
MOST_RELEASES = 50


async def get_coverage(session: Session, name: str) -> CoverageItem:
    """Count the declared domain's cells in the newest suites and in the field; exposure is known by site."""
    model = await registry.get_model(session, name)
    suites = await store.newest_suites(session, name)
    scenarios = [Seen(frozenset(s.tags), 1) for suite in suites for s in planned(suite)]
    versions = await registry.contents_of(session, name)
    lines = [line for line in await telemetry.sums(session, sorted(versions)) if line.content_digest in versions]
    exposure = [Seen(frozenset({f"site:{line.site}"}), _exposure(line, model)) for line in lines]
    found = coverage(policy_of(model).domain, scenarios, await _events(session, versions), exposure)
    return CoverageItem(
        model=name,
        exposure_unit=model.exposure,
        suites=[f"{suite.name}@{suite.version}" for suite in suites],
        simulated_share=found.simulated_share,
        driven_not_simulated=[_cell(cell) for cell in found.driven_not_simulated],
        cells=[_cell(cell) for cell in found.cells],
    )


def _cell(cell: object) -> CellItem:
    return CellItem.model_validate(cell, from_attributes=True)


def _exposure(line: RateLine, model: ModelItem) -> float:
    return line.distance_m if model.exposure == "distance_m" else line.duration_s


async def _events(session: Session, versions: Collection[str]) -> list[Seen]:
    """Tags of field events; a site is a tag even where the device's application names none."""
    found: list[Seen] = []
    after: str | None = None
    while len(found) < MOST_EVENTS:
        page = await telemetry.list_events(session, after=after, limit=PAGE)
        for event in page.items:
            if event.content_digest in versions:
                tags = event.details.get("tags")
                named = {str(tag) for tag in tags} if isinstance(tags, list) else set[str]()
                found.append(Seen(frozenset(named | {f"site:{event.site}"}), 1))
        after = page.next
        if after is None:
            break
    return found


async def get_prediction(session: Session, name: str) -> PredictionItem:
    """Set what simulation said of every judged version against what the field showed."""
    model = await registry.get_model(session, name)
    releases = await releases_of(session, model)
    found = calibrate(releases)
    trust = trust_of(found)
    return PredictionItem(
        model=name,
        releases=[_line(release) for release in releases],
        known=found.releases,
        inside=found.inside,
        held=found.held,
        rank_correlation=found.rank_correlation,
        bias=found.bias,
        predictive=trust.predictive,
        because=trust.because,
    )


async def trust_in_simulator(session: Session, model: ModelItem, candidate: str) -> Trust:
    """Judge the simulator by candidates before this one."""
    return trust_of(calibrate([r for r in await releases_of(session, model) if r.candidate != candidate]))


async def releases_of(session: Session, model: ModelItem) -> list[Release]:
    """Return the newest gate of every candidate that was compared with a champion."""
    newest: dict[str, Row] = {}
    for gate in await store.kept_gates(session, model.name):
        if gate["champion"] and gate["predicted"]:
            newest.setdefault(gate["candidate"], gate)
    gates = list(newest.values())[:MOST_RELEASES]
    contents = sorted({digest for gate in gates for digest in (gate["candidate"], gate["champion"])})
    lines = await telemetry.sums(session, contents) if contents else []
    return [_release(gate, lines, model) for gate in gates]


def _release(gate: Row, lines: Sequence[RateLine], model: ModelItem) -> Release:
    observed = observed_ratio(_sites(gate["candidate"], gate["champion"], lines, model))
    return Release(gate["candidate"], gate["champion"], gate["id"], Ratio(**gate["predicted"]), observed)


def _sites(candidate: str, champion: str, lines: Sequence[RateLine], model: ModelItem) -> list[SiteCounts]:
    kinds = [kind for kind, rule in model.events.items() if rule.incident]
    sites: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    for line in lines:
        sums = sites[line.site, line.device_class][line.content_digest]
        sums[0] += sum(line.counts.get(kind, 0) for kind in kinds)
        sums[1] += _exposure(line, model)
    return [SiteCounts(*by[candidate], *by[champion]) for by in sites.values()]


def _line(release: Release) -> ReleaseLine:
    observed = RatioItem(**asdict(release.observed)) if release.observed else None
    return ReleaseLine(
        candidate=release.candidate,
        champion=release.champion,
        gate=release.gate,
        predicted=RatioItem(**asdict(release.predicted)),
        observed=observed,
        held=release.held,
        inside=release.inside,
    )
