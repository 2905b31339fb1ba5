"""What the field recorded, and the dataset that is made of it."""

import time

from control_plane.datasets.schemas import Clip, DatasetCreate, DatasetItem
from flows.runners.session import RunSession
from flows.steps.select import Recorded, group_of, select_clips
from flows.steps.split import split_groups

INGEST_WAIT_S = 30.0
POLL_S = 0.5


def ingest(run: RunSession) -> list[Recorded]:
    """List what the field recorded, once enough incidents of the trigger's window have arrived with their recording.

    Devices upload when they can, so the evidence that asked for this run may still be on its way: wait a little.
    """
    wanted = int(run.params.get("min_clips", run.workload.spec.curation.get("min_clips", 1)))
    give_up = time.monotonic() + INGEST_WAIT_S
    while True:
        events = {e.event_id: e for e in run.client.list_events(since_number=int(run.params.get("since_event", 0)))}
        recorded = []
        for item in run.client.list_recordings():
            event = events.get(item.event_id or "")
            if item.event_id is not None and event is None:
                continue
            kind = event.kind if event else item.trigger
            group = group_of(event.details if event else {}, item.event_id, item.sha256)
            recorded.append(Recorded(item.sha256, item.size_bytes, item.trigger, item.event_id, kind, group))
        incidents = sum(r.kind in run.workload.incident_kinds for r in recorded)
        if incidents >= wanted or time.monotonic() > give_up:
            return recorded
        time.sleep(POLL_S)


def curate(run: RunSession, recorded: list[Recorded]) -> DatasetItem:
    """Choose clips, hold groups out, publish the manifest."""
    rules = run.workload.spec.curation
    clips = select_clips(
        recorded,
        run.workload.incident_kinds,
        most_incidents=int(rules.get("most_incidents", 400)),
        most_samples=int(rules.get("most_samples", 60)),
    )
    if not clips:
        raise ValueError("the field has sent no recording to learn from yet")
    sides = split_groups([clip.group for clip in clips], float(rules.get("holdout", 0.3)), run.workload.name)
    body = DatasetCreate(
        name=run.workload.name,
        code=run.workload.code_sha256,
        query={"since_event": run.params.get("since_event", 0), "kinds": run.workload.incident_kinds},
        clips=[
            Clip(
                recording=c.sha256,
                size_bytes=c.size_bytes,
                event_id=c.event_id,
                trigger=c.trigger,
                group=c.group,
                split="holdout" if sides[c.group] == "holdout" else "train",
            )
            for c in clips
        ],
        card={"workload": run.workload.spec.title, "run": run.run_id, "kinds": _count([c.kind for c in clips])},
    )
    return run.client.publish_dataset(body)


def _count(names: list[str]) -> dict[str, int]:
    return {name: names.count(name) for name in sorted(set(names))}
