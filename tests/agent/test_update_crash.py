"""The real journal and the real slots, with a process that dies before and after every write and every effect."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from agents.inference import Verdict
from agents.link import BlobStore, DeviceClient, Downloader, DownloadLimits
from agents.protocol.v1 import DeploymentPhase as P
from agents.protocol.v1 import ReleaseManifest, sha256_hex
from agents.sdk import StateDir
from agents.sdk.signals import Signals
from agents.update import Journal, Policy, Slot, Slots, State, Target, UpdateEffects, UpdateLoop
from agents.update.slots import empty
from agents.update.trust import Order
from tests.agent.bundles import Built, files, release
from tests.agent.server import FleetServer


class PowerCutError(BaseException):
    """Nothing catches this, as nothing catches a power cut."""


class Fuse:
    """Counts the points at which the power may go, and cuts it at one of them."""

    def __init__(self, at: int | None) -> None:
        self._left = at
        self.points: list[str] = []

    def point(self, name: str) -> None:
        self.points.append(name)
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise PowerCutError(name)


class CutJournal(Journal):
    def __init__(self, path: Path, fuse: Fuse) -> None:
        super().__init__(path)
        self._fuse = fuse

    def write(self, state: State, because: str) -> None:
        self._fuse.point(f"before journal {state.phase.value}")
        super().write(state, because)
        self._fuse.point(f"after journal {state.phase.value}")


class CutEffects(UpdateEffects):
    """The real effects; each switch and each staging has a point before, after and, for staging, in the middle."""

    def __init__(self, fuse: Fuse, journal: Journal, **parts: Any) -> None:
        super().__init__(**parts)
        self._fuse, self._journal = fuse, journal

    def stage(self, slot: Slot) -> None:
        assert self._journal.read(None).candidate == slot, "the journal knows before it happens"
        self._fuse.point("before stage")
        super().stage(slot)
        self._fuse.point("after stage")

    def switch(self, slot: Slot | None) -> None:
        assert self._journal.read(None).active == slot, "the journal knows before it happens"
        self._fuse.point("before switch")
        super().switch(slot)
        self._fuse.point("after switch")

    def collect(self) -> None:
        self._fuse.point("before collect")
        super().collect()
        self._fuse.point("after collect")


class Believes:
    """What is trusted is tested elsewhere."""

    async def admit(self, target: Target, release: ReleaseManifest, release_bytes: bytes) -> None:
        assert sha256_hex(release_bytes) == target.release_digest

    def evidence(self, release_digest: str) -> bytes | None:
        return b"{}\n"

    def forget(self, wanted: Collection[str]) -> None:
        """Nothing is kept."""


class Judge:
    def __init__(self, ok: bool = True) -> None:
        self.ok = ok

    async def qualify(self, bundle: Path) -> Verdict:
        assert (bundle / "model.onnx").exists()
        return Verdict(self.ok, "" if self.ok else "golden vectors differ", {"latency_p99_ms": 1.0})


class Bench:
    """One device's disk and server; every `process` is a new agent on it."""

    def __init__(self, state: StateDir, client: DeviceClient, server: FleetServer) -> None:
        self.state, self.client, self.server = state, client, server
        self.signals, self.blobs = Signals(state.signals), BlobStore(state.blobs)
        self.slots = Slots(state, self.blobs)
        self.judge = Judge()
        self.time_s = 0.0

    def process(self, fuse: Fuse | None = None, policy: Policy | None = None) -> UpdateLoop:
        fuse = fuse or Fuse(None)
        journal = CutJournal(self.state.private / "journal.db", fuse)
        limits = DownloadLimits(disk_reserve_bytes=0)
        effects = CutEffects(
            fuse,
            journal,
            slots=self.slots,
            downloader=Downloader(self.client, self.blobs, limits),
            signals=self.signals,
            qualifier=self.judge,
            device_class="test",
            trust=Believes(),
        )
        return UpdateLoop(journal, effects, self.slots.running(), policy, lambda: self.time_s)

    async def drive(self, loop: UpdateLoop, built: Built | None, until: Callable[[], bool], steps: int = 60) -> None:
        """Advance until the condition holds; time runs, so that what failed is tried again."""
        await loop.check_slots()
        target = None if built is None else _target(built)
        loop.ordered(Order(target, 3600.0), self.time_s)
        for _ in range(steps):
            await loop.advance()
            if until():
                return
            if loop._task is not None:
                await loop._task
            self.time_s += 61.0 if loop._found.trouble else 0.001
            loop.ordered(Order(target, 3600.0), self.time_s)
        raise AssertionError(f"stuck in {loop.state.phase} {loop.state.reason} {loop.state.detail}")

    async def install(self, built: Built, fuse: Fuse | None = None) -> UpdateLoop:
        loop = self.process(fuse)
        try:
            await self.drive(loop, built, lambda: self.speak(loop) and loop.state.phase is P.COMMITTED)
        finally:
            await loop.close()
        return loop

    def speak(self, loop: UpdateLoop, *, ok: bool = True) -> bool:
        """Be the application: it says how the model runs as soon as it is on trial."""
        if loop.state.phase is P.TRIAL and loop.state.active is not None:
            self.signals.put_health(loop.state.active.content_digest, ok=ok, reason="")
        return True

    def runnable(self) -> str | None:
        """Return the content that runs, after reading all of it; None if the device has none."""
        running = self.slots.running()
        if self.slots.linked() is None:
            return None
        assert running is not None
        assert self.slots.intact(running), "the active bundle is whole and verified"
        return running.content_digest


def _target(built: Built) -> Target:
    order = built.order
    return Target(order.release_digest, order.size_bytes, order.counter, order.rollout_id)


@pytest.fixture
def bench(state: StateDir, client: DeviceClient, server: FleetServer) -> Bench:
    return Bench(state, client, server)


async def points_of_an_update(bench: Bench) -> list[str]:
    await bench.install(release(bench.server, 1, files(1.0)))
    fuse = Fuse(None)
    await bench.install(release(bench.server, 2, files(2.0)), fuse)
    return fuse.points


async def test_an_update_writes_before_it_acts(bench: Bench) -> None:
    points = await points_of_an_update(bench)
    assert points[:2] == ["before journal downloading", "after journal downloading"]
    assert points.index("after journal trial") < points.index("before switch")
    assert points.index("after journal verified") < points.index("before stage")
    assert len(points) >= 18


@pytest.mark.parametrize("at", range(24))
async def test_a_power_cut_anywhere_leaves_a_model_and_the_update_ends_well(bench: Bench, at: int) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    fuse = Fuse(at)
    try:
        await bench.install(new, fuse)
    except PowerCutError:
        assert bench.runnable() in {old.content_digest, new.content_digest}
    else:
        assert at >= len(fuse.points), "there are more points than this test tries"
    await bench.install(new)
    assert bench.runnable() == new.content_digest
    assert bench.process().state.floor == 2


async def test_a_power_cut_in_the_middle_of_staging(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    place, fuse = Slots._place, Fuse(1)

    def cut(slots: Slots, file: Any, target: Path) -> None:
        fuse.point(file.path)
        place(slots, file, target)

    monkeypatch.setattr(Slots, "_place", cut)
    with pytest.raises(PowerCutError):
        await bench.install(new)
    monkeypatch.undo()
    assert bench.runnable() == old.content_digest
    await bench.install(new)
    assert bench.runnable() == new.content_digest


@pytest.mark.parametrize("at", range(6))
async def test_a_power_cut_during_a_revert_still_reverts(bench: Bench, at: int) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.phase is P.TRIAL)
    await loop.close()
    bench.signals.put_health(new.content_digest, ok=False, reason="it spins")
    loop = bench.process(Fuse(at))
    try:
        await bench.drive(loop, new, lambda: loop.state.phase is P.REVERTED)
    except PowerCutError:
        assert bench.runnable() is not None
    await loop.close()
    bench.signals.put_health(new.content_digest, ok=False, reason="it spins")
    loop = bench.process()
    await bench.drive(loop, new, lambda: bench.speak(loop, ok=False) and loop.state.phase is P.REVERTED)
    assert bench.runnable() == old.content_digest
    await loop.close()


async def test_a_model_that_fails_goes_back_and_is_not_tried_again(bench: Bench) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    loop = bench.process()
    await bench.drive(loop, new, lambda: bench.speak(loop, ok=False) and loop.state.phase is P.REVERTED)
    assert bench.runnable() == old.content_digest
    # The server changes its mind twice: the same counter is refused, a new one is taken.
    await bench.drive(loop, old, lambda: loop.state.phase is P.COMMITTED)
    await bench.drive(loop, new, lambda: loop.state.reason == "known_bad")
    again = release(bench.server, 3, files(2.0))
    await bench.drive(loop, again, lambda: bench.speak(loop) and loop.state.phase is P.COMMITTED)
    assert bench.runnable() == new.content_digest
    await loop.close()


async def test_a_first_install_that_fails_leaves_no_model(bench: Bench) -> None:
    loop = bench.process()
    new = release(bench.server, 1, files(1.0))
    await bench.drive(loop, new, lambda: bench.speak(loop, ok=False) and loop.state.phase is P.REVERTED)
    assert bench.runnable() is None
    assert loop.running() is None
    await loop.close()


async def test_an_old_word_does_not_decide_a_new_trial(bench: Bench) -> None:
    loop = bench.process()
    new = release(bench.server, 1, files(1.0))
    bench.signals.put_health(new.content_digest, ok=True, reason="said about an earlier run")
    await bench.drive(loop, new, lambda: loop.state.phase is P.TRIAL and loop.state.reason == "awaiting_health")
    await loop.advance()
    assert loop.state.phase is P.TRIAL
    bench.time_s += 301
    await loop.advance()
    assert (loop.state.phase, loop.state.reason) == (P.REVERTED, "no_health_report")
    await loop.close()


async def test_a_moving_robot_is_left_alone(bench: Bench) -> None:
    await bench.install(release(bench.server, 1, files(1.0)))
    new = release(bench.server, 2, files(2.0))
    bench.signals.put_motion(safe_to_switch=False)
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.reason == "moving")
    assert loop.report() is not None
    bench.signals.put_motion(safe_to_switch=True)
    await bench.drive(loop, new, lambda: loop.state.phase is P.TRIAL)
    await loop.close()


async def test_an_order_that_expired_is_not_acted_on(bench: Bench) -> None:
    await bench.install(release(bench.server, 1, files(1.0)))
    new = release(bench.server, 2, files(2.0))
    bench.signals.put_motion(safe_to_switch=False)
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.reason == "moving")
    bench.time_s += 3601
    bench.signals.put_motion(safe_to_switch=True)
    await loop.advance()
    assert (loop.state.phase, loop.state.reason) == (P.ARMED, "order_expired")
    await loop.close()


@pytest.mark.parametrize("phase", [P.DOWNLOADING, P.ARMED, P.TRIAL])
async def test_an_order_withdrawn_midway_ends_with_what_ran_before(bench: Bench, phase: P) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    bench.signals.put_motion(safe_to_switch=phase is P.TRIAL)
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.phase is phase)
    await bench.drive(loop, None, lambda: loop.state.phase is P.IDLE)
    assert bench.runnable() == old.content_digest
    assert loop.report() is None
    await loop.close()


async def test_going_back_fetches_no_model_again(bench: Bench) -> None:
    await bench.install(release(bench.server, 1, files(1.0)))
    await bench.install(release(bench.server, 2, files(2.0)))
    back = release(bench.server, 3, files(1.0))
    before = bench.server.served_bytes
    await bench.install(back)
    assert bench.server.served_bytes - before == back.order.size_bytes
    assert bench.runnable() == back.content_digest


async def test_files_that_no_slot_needs_are_deleted(bench: Bench) -> None:
    for counter in range(1, 5):
        await bench.install(release(bench.server, counter, files(float(counter))))
    kept = list((bench.state.blobs / "sha256").glob("*/*"))
    # Two bundles: a manifest, a model and golden vectors each; the contract is the same file.
    assert len(kept) == 7


async def test_a_model_that_does_not_qualify_never_runs(bench: Bench) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    bench.judge.ok = False
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.phase is P.REFUSED)
    assert (loop.state.reason, loop.state.detail) == ("not_qualified", "golden vectors differ")
    assert bench.runnable() == old.content_digest
    await loop.close()


async def test_the_wrong_bytes_are_reported_and_never_installed(bench: Bench) -> None:
    new = release(bench.server, 1, files(1.0))
    bench.server.faults.add("wrong_digest")
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.reason == "wrong_digest")
    assert bench.runnable() is None
    bench.server.faults.clear()
    bench.time_s += 100
    await bench.drive(loop, new, lambda: loop.state.phase is P.TRIAL)
    await loop.close()


async def test_a_damaged_slot_is_left_for_the_other_and_then_repaired(bench: Bench) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    await bench.install(new)
    model = bench.state.active / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(b"rot")
    loop = bench.process()
    await loop.check_slots()
    await loop.advance()
    assert bench.runnable() == old.content_digest
    await bench.drive(loop, new, lambda: bench.speak(loop) and loop.state.phase is P.COMMITTED)
    assert bench.runnable() == new.content_digest
    await loop.close()


async def test_a_lost_journal_keeps_model_and_floor(bench: Bench) -> None:
    await bench.install(release(bench.server, 5, files(1.0)))
    for path in bench.state.private.glob("journal.db*"):
        path.unlink()
    (bench.state.private / "journal.db").write_bytes(b"not a database at all, but long enough to be one" * 100)
    loop = bench.process()
    assert loop._journal.recovered is not None
    assert (loop.state.floor, loop.running() is not None) == (5, True)
    await bench.drive(loop, release(bench.server, 4, files(2.0)), lambda: loop.state.phase is P.REFUSED)
    assert loop.state.reason == "counter_below_floor"
    await loop.close()


async def test_the_active_slot_cannot_be_staged_over(bench: Bench) -> None:
    await bench.install(release(bench.server, 1, files(1.0)))
    running = bench.slots.running()
    assert running is not None
    with pytest.raises(OSError, match="is active"):
        bench.slots.stage(running, b"{}")


async def test_what_is_installed_is_read_only(bench: Bench) -> None:
    await bench.install(release(bench.server, 1, files(1.0)))
    folder = bench.state.active.resolve()
    assert folder.stat().st_mode & 0o222 == 0
    assert all(path.stat().st_mode & 0o222 == 0 for path in folder.iterdir())
    empty(folder.parent)
    assert list(folder.parent.iterdir()) == []


def test_a_state_survives_its_journal(tmp_path: Path) -> None:
    state = State(
        phase=P.TRIAL,
        reason="awaiting_health",
        target=Target("a" * 64, 5, 2, "r"),
        active=Slot("b", "a" * 64, "b" * 64, 2),
        fallback=Slot("a", "c" * 64, "d" * 64, 1),
        floor=1,
        starts=1,
        known_bad=(("e" * 64, 9),),
        qualification={"x": 1.0},
    )
    journal = Journal(tmp_path / "journal.db")
    journal.write(state, "test")
    journal.close()
    assert Journal(tmp_path / "journal.db").read(None) == state
    assert TypeAdapter(State).validate_json(TypeAdapter(State).dump_json(state)) == state
