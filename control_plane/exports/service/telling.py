"""Run events as they happen, for whoever collects them: one event for each thing that happened."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from control_plane.exports.domain.openlineage import event_of, lines_of, run_id
from control_plane.exports.domain.values import Happened, Made, Site, Telling, Told
from control_plane.exports.service.gathering import Reader, there
from control_plane.kit.db import Session
from control_plane.pipelines import service as pipelines
from control_plane.registry import service as registry
from control_plane.rollout import service as rollout


@dataclass(frozen=True, slots=True)
class Event:
    """One run event as JSON; `id` is the same for the same one, `line` for the same run, and `place` orders a run's."""

    id: str
    line: str
    place: str
    body: str


async def run_events(session: Session, payload: Mapping[str, Any], *, url: str) -> list[Event]:
    """Return what tells of one thing that happened: an end with its beginning, for either may come first.

    What hidden suites found is left out: whoever collects events may train.
    """
    telling = Telling(
        Told(payload["kind"]), payload["name"], Happened(payload["event"]), datetime.fromisoformat(payload["at"])
    )
    made = await _made(Reader(session, trains=True), telling)
    tellings = [telling] if telling.happened is Happened.START else [_beginning(made, telling), telling]
    return await asyncio.to_thread(lambda: [event for each in tellings for event in _event(made, Site(url), each)])


def _event(made: Made, site: Site, telling: Telling) -> list[Event]:
    found = event_of(made, site, telling)
    if found is None:
        return []
    line = run_id(telling.kind, telling.name)
    place = f"openlineage.{1 if telling.happened is Happened.START else 2}.{telling.happened}"
    name = uuid5(NAMESPACE_URL, f"{site.url} {line} {telling.happened}")
    return [Event(f"del_{name.hex}", line, place, lines_of([found]).decode().strip())]


def _beginning(made: Made, end: Telling) -> Telling:
    """Return when what has ended had begun."""
    begun = {
        Told.RUN: lambda: made.runs[end.name].requested_at,
        Told.TRAIN: lambda: made.trainings[end.name].created_at,
        Told.EVALUATE: lambda: made.evaluations[end.name].created_at,
        Told.GATE: lambda: made.gates[end.name].created_at,
        Told.PROMOTE: lambda: made.rollouts[end.name].created_at,
    }
    try:
        at = begun[end.kind]()
    except KeyError:
        at = end.at
    return replace(end, happened=Happened.START, at=at)


async def _made(reader: Reader, telling: Telling) -> Made:
    """Read the one thing that it is about, and what names what went into it."""
    name, session = telling.name, reader.session
    match telling.kind:
        case Told.RUN:
            run = await there(pipelines.get_run(session, name))
            return Made(runs={name: run} if run else {})
        case Told.GATE:
            gate = await reader.gate(name)
            return Made(gates={name: gate} if gate else {})
        case Told.PROMOTE:
            found = await there(rollout.get(session, name))
            made = Made(rollouts={name: found} if found else {})
            version = await reader.version(found.content_digest) if found else None
            return replace(made, also={version.content_digest: version} if version else {})
        case Told.EVALUATE:
            evaluated = await reader.evaluation(name)
            known = {name: evaluated} if evaluated else {}
            suites = await reader.suites(one.suite for one in known.values())
            return await reader.named(Made(evaluations=known, suites=suites))
        case Told.TRAIN:
            trained = await reader.training(name)
            if trained is None:
                return Made()
            versions = [each for each in await registry.list_versions(session, trained.model) if each.training == name]
            return await reader.named(
                Made(trainings={name: trained}, versions={each.content_digest: each for each in versions})
            )
