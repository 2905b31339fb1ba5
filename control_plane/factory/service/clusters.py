"""Clusters, and where jobs are placed among them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from control_plane.factory.domain import Needs, Place, Profile, expected_s, place
from control_plane.factory.models import Cluster
from control_plane.factory.schemas import ClusterItem, ClusterPut, JobCreate, JobPlacement, PlaceAsk, WeighedCluster
from control_plane.factory.service.meters import exporters_of, put_exporters
from control_plane.factory.store import jobs as store
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid

WITHOUT_IMAGES = frozenset({"local", "slurm", "ray"})
"""Back ends that run commands as their nodes have them; of one that is not known here it is not known."""


async def put_cluster(session: Session, name: str, body: ClusterPut) -> ClusterItem:
    await store.put_cluster(session, name, body.model_dump(exclude={"exporters"}))
    if body.exporters is not None:
        await put_exporters(session, name, body.exporters)
    held = (await exporters_of(session)).get(name, [])
    return ClusterItem(name=name, **body.model_dump(exclude={"exporters"}), exporters=held)


async def list_clusters(session: Session) -> list[ClusterItem]:
    exporters = await exporters_of(session)
    stated = set(ClusterPut.model_fields) - {"exporters"} | {"name"}
    return [
        ClusterItem(**{name: getattr(each, name) for name in stated}, exporters=exporters.get(each.name, []))
        for each in await store.list_clusters(session)
    ]


async def placed(session: Session, body: JobCreate) -> tuple[str, dict[str, Any] | None]:
    """Return the job's cluster: the one it names, or the one that is chosen for it, with the reasons.

    Raises:
        Invalid: a cluster is not known, or none fits; the message says why each does not.
    """
    if body.place is None:
        await _known(session, [body.cluster])
        return body.cluster, None
    clusters = await _known(session, body.place.among)
    busy, took_s = await store.busy(session), await store.took_s(session, body.kind)
    places = [place_of(each, busy.get(each.name, 0), took_s.get(each.name)) for each in clusters]
    chosen = place(_needs(body, body.place, places), places, body.place.policy)
    if chosen.cluster is None:
        raise Invalid(chosen.because, code="no_cluster_fits")
    options = [WeighedCluster.model_validate(asdict(option)) for option in chosen.options]
    kept = JobPlacement(policy=body.place.policy, because=chosen.because, options=options)
    return chosen.cluster, kept.model_dump(mode="json")


async def _known(session: Session, names: Sequence[str]) -> list[Cluster]:
    found = {each.name: each for each in await store.list_clusters(session)}
    missing = [name for name in names if name not in found]
    if missing:
        raise Invalid(f"there is no cluster {missing[0]!r}; there are {', '.join(found) or 'none'}")
    return [found[name] for name in dict.fromkeys(names)]


def _needs(body: JobCreate, ask: PlaceAsk, places: Sequence[Place]) -> Needs:
    spec = body.spec
    takes_s = ask.expected_s or expected_s(places) or spec.timeout_s
    return Needs(spec.cpus, spec.gpus, spec.memory_bytes, takes_s, ask.deadline_s, spec.image)


def profile_of(cluster: Cluster) -> Profile:
    return Profile(cluster.usd_per_hour, cluster.watts, cluster.usd_per_gpu_hour, cluster.gpu_watts)


def place_of(cluster: Cluster, busy: int, measured_s: float | None) -> Place:
    return Place(
        name=cluster.name,
        profile=profile_of(cluster),
        cpus=cluster.cpus,
        gpus=cluster.gpus,
        memory_bytes=cluster.memory_bytes,
        slots=cluster.slots,
        speed=cluster.speed,
        queue_s=cluster.queue_s,
        runs_images=cluster.backend not in WITHOUT_IMAGES,
        busy=busy,
        measured_s=measured_s,
    )
