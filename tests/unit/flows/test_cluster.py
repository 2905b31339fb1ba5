"""A cluster sees its jobs through although back end and ledger misbehave: nobody waits for ever, nobody for another."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from control_plane.client.errors import Conflict, Unavailable
from control_plane.factory.domain import JobState, Outcome
from control_plane.factory.schemas import AttemptCreate, AttemptFinish, JobItem, JobSpec
from flows.runners import cluster as clusters
from flows.runners.back_ends.interface import BackEndError, Order
from flows.runners.cluster import Cluster, JobFailedError
from flows.steps.orders import Phase, Seen

BORN = datetime(2026, 11, 27, tzinfo=UTC)


def job_of(key: str, **values: Any) -> JobItem:
    blank = dict.fromkeys(("run_id", "started_at", "finished_at", "outputs", "failure"))
    sums = dict.fromkeys(("progress", "wall_s", "cpu_s", "gpu_s", "usd", "energy_j"), 0)
    spec = JobSpec(command=["python"], timeout_s=60, image=values.pop("image", None))
    given = {"key": key, "kind": "test", "cluster": "there", "subject": "", "spec": spec, "state": "queued"}
    rest = {"attempt": 0, "created_at": BORN, "note": "", "energy_is_estimate": True}
    return JobItem.model_validate(blank | sums | given | rest | values)


class Ledger:
    """A client's calls about jobs."""

    def __init__(self, *jobs: JobItem) -> None:
        self.jobs = {job.key: job for job in jobs}
        self.away = False

    def change(self, key: str, **values: Any) -> JobItem:
        self.jobs[key] = self.jobs[key].model_copy(update=values)
        return self.jobs[key]

    def get_job(self, key: str) -> JobItem:
        if self.away:
            raise Unavailable(0, "unreachable", "nobody answers")
        return self.jobs[key]

    def start_attempt(self, key: str, body: AttemptCreate) -> JobItem:
        job = self.jobs[key]
        if job.state != JobState.QUEUED or (body.asked, body.attempt) != (job.asked, job.attempt + 1):
            raise Conflict(409, "job_not_free", "it is held")
        return self.change(key, state=JobState.RUNNING, attempt=job.attempt + 1, holder=body.holder)

    def finish_attempt(self, key: str, body: AttemptFinish) -> JobItem:
        state = {Outcome.FAILED: JobState.FAILED, Outcome.LOST: JobState.QUEUED, Outcome.DONE: JobState.DONE}
        return self.change(key, state=state[body.outcome], failure=body.failure)


class Place:
    """A back end that does every order at once, unless told otherwise."""

    runs_images = False

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.ended: dict[str, Seen] = {}
        self.refuses: set[str] = set()
        self.broken: Exception | None = None

    def submit(self, order: Order) -> None:
        if order.key in self.refuses:
            raise BackEndError("no such partition")
        self.ledger.change(order.key, state=JobState.DONE)
        self.ended[order.name] = Seen(Phase.GONE)

    def see(self, names: Collection[str]) -> Mapping[str, Seen]:
        if self.broken:
            raise self.broken
        return {name: self.ended[name] for name in names if name in self.ended}

    def cancel(self, name: str) -> None:
        """Nothing lives here."""

    def logs(self, name: str) -> str:
        return name

    def close(self) -> None:
        """Nothing is held here."""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Ledger, Place, Cluster]]]:
    opened: list[Cluster] = []
    monkeypatch.setattr(clusters, "RETRY_S", 0.01)
    monkeypatch.setattr(clusters, "GIVE_UP_S", 0.2)
    monkeypatch.setattr(clusters, "POLL_S", 0.01)

    def make(*jobs: JobItem) -> tuple[Ledger, Place, Cluster]:
        ledger = Ledger(*jobs)
        place = Place(ledger)
        client: Any = ledger
        opened.append(Cluster(client, "there", place, 2))
        return ledger, place, opened[-1]

    yield make
    for each in opened:
        each.close()


Make = Callable[..., tuple[Ledger, Place, Cluster]]


def test_a_refused_order_holds_up_no_other_and_is_closed_in_the_ledger(bench: Make) -> None:
    bad, good = job_of("bad"), job_of("good")
    ledger, place, cluster = bench(bad, good)
    place.refuses = {"bad"}
    refused, done = cluster.submit(bad), cluster.submit(good)
    assert done.result(5).state == JobState.DONE
    with pytest.raises(BackEndError, match="no such partition"):
        refused.result(5)
    deadline = time.monotonic() + 5
    while ledger.jobs["bad"].state != JobState.FAILED and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (ledger.jobs["bad"].state, ledger.jobs["bad"].attempt) == ("failed", 1)
    assert ledger.jobs["bad"].failure == "there: the order is not taken: no such partition"


def test_a_defect_is_told_to_those_who_wait_and_the_next_job_is_seen_through(bench: Make) -> None:
    first, second = job_of("first"), job_of("second")
    _, place, cluster = bench(first, second)
    place.broken = KeyError("defect")
    with pytest.raises(KeyError, match="defect"):
        cluster.submit(first).result(5)
    place.broken = None
    assert cluster.submit(second).result(5).state == JobState.DONE


@pytest.mark.parametrize("away", ["back end", "ledger"])
def test_a_short_absence_is_borne_and_a_long_one_told(bench: Make, away: str) -> None:
    job, other = job_of("job"), job_of("other")
    ledger, place, cluster = bench(job, other)

    def go(gone: bool) -> None:
        ledger.away = gone and away == "ledger"
        place.broken = BackEndError("no controller") if gone and away == "back end" else None

    go(True)
    short = cluster.submit(job)
    time.sleep(0.05)
    assert not short.done()
    go(False)
    assert short.result(5).state == JobState.DONE
    go(True)
    with pytest.raises((BackEndError, Unavailable)):
        cluster.submit(other).result(5)
    assert ledger.jobs["other"].state == JobState.QUEUED  # its order may wait there: only who asked is told


def test_a_job_asked_for_anew_is_seen_through_anew(bench: Make) -> None:
    job = job_of("job")
    ledger, _, cluster = bench(job)
    ledger.change("job", state=JobState.FAILED, failure="its own")
    with pytest.raises(JobFailedError, match="its own"):
        cluster.submit(job).result(5)
    again = ledger.change("job", state=JobState.QUEUED, asked=2)
    assert cluster.submit(again).result(5).state == JobState.DONE


def test_no_job_runs_outside_of_the_image_it_asks_for(bench: Make) -> None:
    job = job_of("job", image="trainer:7")
    _, place, cluster = bench(job)
    with pytest.raises(JobFailedError, match="this cluster runs no images, and it asks for trainer:7"):
        cluster.submit(job).result(5)
    assert not place.ended


def test_a_job_that_states_an_image_runs_where_images_do(bench: Make) -> None:
    job = job_of("job", image="trainer:7")
    _, place, cluster = bench(job)
    place.runs_images = True
    assert cluster.submit(job).result(5).state == JobState.DONE
